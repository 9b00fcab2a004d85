"""Texts to token ids, and conversations to ids with a mask of what is supervised.

    tokenizer.json ─▶ TokenizerFile ─▶ Encoder | Decoder
    text ─▶ ids        parts of a conversation ─▶ ids + masks

tokenizer_file.py  a tokenizer.json: what ends a text, what its content hash is
tokenizer.py       texts to ids, by gigatoken where it agrees with tokenizers
conversations.py   rendered parts to ids with a mask that is exact to the token
masks.py           which tokens are supervised, as run lengths
encode.py          one block of lines to ids, hashes and ids of documents; the processes for it
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
