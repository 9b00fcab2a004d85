"""Blocks of rows to documents: plain texts and conversations.

    file ─▶ readers: blocks ─▶ documents: rows ─▶ schemas: messages ─▶ chat_template: parts

readers.py        any file to blocks, held against its hash
documents.py      blocks of rows to documents; what is bad says why
schemas.py        columns of a row to a conversation: prompt and response, messages, converse
chat_template.py  a conversation to text by the tokenizer's template, and its supervised parts
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
