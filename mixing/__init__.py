"""From raw files to a blended corpus with a receipt.

    files ─▶ documents: rows ─▶ tokenizer: ids ─▶ shards + manifest ─▶ store: SourceReader
    SourceReader ─▶ exclude: Spans ─▶ pack: rows of a source ─▶ plan + order: position ─▶ row
    plan + shards ─▶ rows: arrays for the model      plan + shards ─▶ receipt: asked, realised

inputs.py         which files a source is made of, and the hashes of their bytes
documents.py      files to blocks of lines, lines to texts; what is bad says why
tokenizer.py      texts to ids, by gigatoken where it agrees with tokenizers
encode.py         one block of lines to ids, hashes and ids of documents; the processes for it
ledger.py         what came in, what was stored, what was dropped and why
shards.py         the files of a built source, hashed and synced while they are written
store.py          content-addressed folders: keys, locks, opening, checking
build.py          one source or all of a recipe, from files to the store
exclude.py        duplicates and held-out documents, as spans that may be trained on
pack.py           spans to rows of seq_len
shares.py         asked shares to slot weights on an exact grid
order.py          slots of a period, and the keyed permutation inside a source
plan.py           phases, rows and epochs of a run; position to (source, row)
rows.py           a row to arrays: ids, positions, targets, document lengths
receipt.py        what the shards say was trained: asked against realised; traces
"""
