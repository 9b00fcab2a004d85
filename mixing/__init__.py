"""From raw files to a blended corpus with a receipt.

    files ─▶ readers: blocks ─▶ documents: rows ─▶ encode: ids ─▶ shards + manifest ─▶ store
    rows ─▶ schemas: messages ─▶ chat_template: parts ─▶ conversations: ids + masks
    store: SourceReader ─▶ exclude: Spans ─▶ pack: rows of a source ─▶ plan + order: position ─▶ row
    plan + shards ─▶ rows: arrays for the model      plan + shards ─▶ receipt: asked, realised

inputs.py          which files a source is made of, and the hashes of their bytes
hub_files.py       which files a dataset of the hub is made of, and the hub's hashes of them
blocks.py          bytes of a file, packed or not, to blocks of whole lines
tables.py          Parquet and Arrow files to blocks of rows
csv_rows.py        CSV and TSV files to blocks of rows
readers.py         any file to blocks, held against its hash
documents.py       blocks of rows to documents; what is bad says why
schemas.py         columns of a row to a conversation: prompt and response, messages, converse
chat_template.py   a conversation to text by the tokenizer's template, and its supervised parts
conversations.py   rendered parts to ids with a mask that is exact to the token
masks.py           which tokens are supervised, as run lengths
tokenizer_file.py  a tokenizer.json: what ends a text, what its content hash is
tokenizer.py       texts to ids, by gigatoken where it agrees with tokenizers
encode.py          one block of lines to ids, hashes and ids of documents; the processes for it
ingest.py          the files of a source through the processes into a writer, in order
ledger.py          what came in, what was stored, what was dropped and why
shards.py          the files of a built source, hashed and synced while they are written
erasures.py        the list of erased documents, as hashes
wipe.py            erased documents out of the files of a built source
erase.py           documents by id out of all of a store
publish.py         building under a lock, and the one rename that makes a source or file visible
store.py           content-addressed folders: keys, opening, checking
build.py           one source or all of a recipe, from files to the store
subset.py          a seeded part of what may be trained on
exclude.py         duplicates and held-out documents, as spans that may be trained on
decontaminate.py   where eval items stand in a source, as spans to leave out
matches.py         those places kept in the store, by source and eval set
corpus.py          the built sources of a recipe, opened together
megatron.py        kept documents to Megatron's .bin and .idx
best_fit.py        best-fit-decreasing, all pieces of one length at once
pack.py            spans to rows of seq_len
packed_store.py    those rows kept in the store, by what they were packed from
packing_ledger.py  what became of the stored documents when they were packed
shares.py          asked shares to slot counts on an exact grid
caps.py            refusing a plan that reads a source too often, with what would fit
phases.py          a schedule in whole steps
length.py          how many steps a run has, by its own tokens or by the domain's
slots.py           which source has each slot of a period, and marks to find any slot from
order.py           the keyed permutation of rows inside a source
plan.py            mix and schedule over packed sources, compiled
planned.py         what a compiled plan says, and the hash chain over its order
seek.py            position to (source, row) and back
cursors.py         how far each source was read, for a branch that goes on there
rows.py            a row to arrays: ids, positions, targets, document lengths
tally.py           every position of a phase, counted
receipt.py         what the shards say was trained: asked against realised
trace.py           documents of a step, steps of a document
"""
