"""Texts to token ids, and conversations to ids with a mask of what is supervised.

    tokenizer.json ─▶ TokenizerFile ─▶ Encoder | Decoder
    text ─▶ ids        parts of a conversation ─▶ ids + masks

tokenizer_file.py  reads a tokenizer.json: which token ends a text, and its content hash
tokenizer.py       encodes texts, by gigatoken where it gives the ids of tokenizers
conversations.py   encodes rendered conversations with a mask that is exact to the token
masks.py           stores which tokens are supervised, as run lengths
encode.py          encodes a block of rows in a worker process: ids, hashes, document ids
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
