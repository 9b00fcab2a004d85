"""The demo's embedded world: general facts, an exam about them, and labelled customer comments.

    WorldConfig ─▶ Facts ─▶ Exam, corpora (pretrain, replay, retention) ─▶ files, tokenizer.json
    WorldConfig ─▶ Comments (train, test) ─▶ files

config.py     seed, sizes, and the layout of the folder
facts.py      subjects, invented entities, the facts to know
exam.py       multiple-choice items in MMLU's format
corpora.py    general documents: statements of facts, and questions that teach the format
comments.py   customer comments and their label tree
tokenizer.py  the byte-level BPE
write.py      everything to disk
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
