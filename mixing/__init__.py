"""From raw files to a blended corpus with a receipt.

    files ─▶ sources: blocks ─▶ documents ─▶ tokens: ids, masks ─▶ store: shards + manifest
    store ─▶ selection: spans ─▶ packing: rows of a source ─▶ blend: position ─▶ row ─▶ arrays
    blend + store ─▶ audit: asked, realised

ledger.py    what came in, what was stored, what was dropped and why
publish.py   building under a lock, and the one rename that makes a source or file visible
sources/     files, folders and hub datasets to blocks of rows
documents/   rows to texts and conversations
tokens/      texts to ids and masks
store/       ids to content-addressed shards
selection/   which spans may be trained on
packing/     spans to rows of one source
blend/       shares and phases to position to row to arrays
audit/       what was really trained on
building/    all of it, from files to the store, and documents out of it again
corpus.py    the built sources of a recipe, opened together
"""
