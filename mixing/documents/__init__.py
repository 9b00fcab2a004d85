"""Blocks of rows to documents: plain texts and conversations.

    file ─▶ readers: blocks ─▶ documents: rows ─▶ schemas: messages ─▶ chat_template: parts

readers.py        reads any file in blocks and checks the bytes against its hash
documents.py      turns rows into documents; a row that cannot be used says why
schemas.py        turns columns into a conversation: prompt/response, messages, converse
chat_template.py  renders a conversation by the tokenizer's template, and finds the supervised parts
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
