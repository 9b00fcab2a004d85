"""The demo's embedded world: general facts, an exam about them, and labelled customer comments.

    WorldConfig ─▶ Facts ─▶ Exam, corpora (pretrain, replay, retention) ─▶ files, tokenizer.json
    WorldConfig ─▶ Comments (train, test) ─▶ files

config.py     seed, sizes, and the layout of the folder
facts.py      invents subjects, entities and the facts to know
exam.py       writes multiple-choice items in MMLU's format
corpora.py    writes general documents: facts, and questions that teach the format
comments.py   writes customer comments and their label tree
tokenizer.py  trains the byte-level BPE
write.py      writes the world to disk
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
