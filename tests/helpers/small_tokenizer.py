"""A byte-level BPE tokenizer of a few hundred tokens, made in a second, for tests of ingest."""

import json
from functools import lru_cache
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from mixing.tokens.tokenizer_file import TokenizerFile, parse_tokenizer

EOS = "<|endoftext|>"
WORDS = "the court may order that a person who fails to comply pays costs in this section of law"


@lru_cache(maxsize=1)
def small_tokenizer_json() -> str:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=[EOS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([WORDS] * 8, trainer)
    return tokenizer.to_str()


def small_tokenizer(**changes: Any) -> TokenizerFile:
    """The tokenizer, with top-level entries of its JSON replaced by ``changes``."""
    tree = {**json.loads(small_tokenizer_json()), **changes}
    return parse_tokenizer(json.dumps(tree), {}, {}, origin="small")


def reference(tokenizer: TokenizerFile) -> Tokenizer:
    """The tokenizers library on the same file, special strings as text."""
    backend = Tokenizer.from_str(tokenizer.json_text)
    backend.encode_special_tokens = True
    return backend
