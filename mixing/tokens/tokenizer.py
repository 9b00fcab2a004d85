"""Encodes texts: by gigatoken where it gives the ids of tokenizers, else by tokenizers.

The only file that imports either library.
"""

import json
import re
from collections.abc import Callable, Iterable, Sequence
from importlib.metadata import version
from itertools import chain
from typing import Any, Literal

import gigatoken
import numpy as np
import tokenizers

from configs import UserError
from mixing.tokens.tokenizer_file import TokenizerFile, load_tokenizer

__all__ = ["Decoder", "Encoder", "TokenizerFile", "choose_encoder", "load_tokenizer"]

Library = Literal["gigatoken", "tokenizers"]
Encoded = tuple[np.ndarray, np.ndarray]  # ids uint32 (tokens,), offsets int64 (texts + 1,)
Encode = Callable[[Sequence[str], Sequence[bytes] | None], Encoded]

# Strings on which tokenizer implementations have differed; joined by the tokenizer's own
# special tokens. Checked for every source beside its own text.
TRICKY_STRINGS = (
    "",
    " ",
    "\n\n\n",
    "\r\n\r\n",
    "a\x00b",
    "\ufeffbegin",
    " \t\u00a0\u202f\u3000 x",
    "don't I'LL we've 'sS",
    "1234567890 3.14159 1,000,000",
    "e\u0301 \u00e9 \ufb01 \u1e9b\u0323",
    "\U0001f468\u200d\U0001f469\u200d\U0001f467 \U0001f1e9\U0001f1ea",
    "\u6f22\u5b57\u4eee\u540d \ud55c\uad6d\uc5b4 \u0627\u0644\u0639\u0631\u0628\u064a\u0629",
    "\u0939\u093f\u0928\u094d\u0926\u0940 \u0e44\u0e17\u0e22",
    "def f(x):\n\treturn  x**2   # \u03bb\n",
    "a" * 300,
    " " * 300,
)


class Encoder:
    """Texts to ids with one library; adds no BOS or EOS, and special strings stay text.

    ``reason`` says why the library is not gigatoken, or on what it was compared.
    """

    def __init__(self, tokenizer: TokenizerFile, library: Library, reason: str = "") -> None:
        self.tokenizer = tokenizer
        self.library: Library = library
        self.reason = reason
        self._specials = SpecialStrings(tokenizer.special_strings)
        if library == "gigatoken":
            self._encode = _gigatoken_encode(tokenizer.json_text)
        else:
            self._encode = _tokenizers_encode(tokenizer.json_text)

    @property
    def version(self) -> str:
        return version(self.library)

    def encode(self, texts: Sequence[str], utf8: Sequence[bytes] | None = None) -> Encoded:
        """``(ids uint32 (tokens,), offsets int64 (texts + 1,))`` of texts without surrogates.

        ``utf8`` are the same texts as bytes, where at hand: gigatoken is faster on those.
        """
        if not texts:
            return np.empty(0, np.uint32), np.zeros(1, np.int64)
        return self._encode(texts, utf8)

    def count_special_like(self, utf8: bytes) -> int:
        """How often a special token's string stands in a text (it is encoded as text)."""
        return self._specials.count(utf8)


class Decoder:
    """Stored ids back to text, with the bytes that each id stands for.

    Raises UserError for tokenizers that gigatoken cannot load (those that are not BPE).
    """

    def __init__(self, tokenizer: TokenizerFile) -> None:
        try:
            backend = gigatoken.Tokenizer.from_json(tokenizer.json_text)
        except (RuntimeError, ValueError) as error:
            reason = str(error).strip().splitlines()[0]
            raise UserError(
                f"stored ids cannot be decoded: {reason}", "use a BPE tokenizer"
            ) from None
        vocabulary = backend.vocab
        sizes = [len(vocabulary.get(i, b"")) for i in range(tokenizer.vocab_size)]
        self._backend = backend
        self._bytes = np.array(sizes, np.int64)
        # BOS and EOS stand between texts and are no part of one.
        for end in (tokenizer.bos_id, tokenizer.eos_id):
            if end is not None:
                self._bytes[end] = 0

    def text(self, ids: np.ndarray) -> str:
        """Text of some ids; bytes of a character that is cut in two are replaced."""
        shown = ids[self._bytes[ids] > 0].astype(np.uint32)
        return self._backend.decode(shown).decode("utf-8", "replace")

    def token_ends(self, ids: np.ndarray) -> np.ndarray:
        """int64 (tokens,): bytes of the text up to and with each token."""
        return np.cumsum(self._bytes[ids])


class SpecialStrings:
    """Counts special strings in UTF-8, at the speed of a byte search where there are none."""

    def __init__(self, strings: Iterable[str]) -> None:
        found = sorted({s.encode() for s in strings if s}, key=lambda s: (-len(s), s))
        self._pattern = re.compile(b"|".join(re.escape(s) for s in found)) if found else None
        self._first_bytes = sorted({s[:1] for s in found})
        self._first_pairs = sorted({s[:2] for s in found})

    def count(self, utf8: bytes) -> int:
        if not any(first in utf8 for first in self._first_bytes):
            return 0
        if self._pattern is None or not any(pair in utf8 for pair in self._first_pairs):
            return 0
        return sum(1 for _ in self._pattern.finditer(utf8))


def choose_encoder(tokenizer: TokenizerFile, sample: Sequence[str]) -> Encoder:
    """gigatoken if it gives the ids of tokenizers on ``sample`` and on TRICKY_STRINGS.

    The reason is kept on the encoder. Cost: tokenizers encodes 1 to 3 MB/s of sample.
    """
    specials = tokenizer.special_strings[:64]
    texts = [*sample, *TRICKY_STRINGS, *(f"a {s}b{s}\n{s}" for s in specials)]
    reference = Encoder(tokenizer, "tokenizers")
    try:
        fast = Encoder(tokenizer, "gigatoken")
        ids, offsets = fast.encode(texts)
    except (RuntimeError, ValueError, TypeError) as error:
        reference.reason = f"gigatoken: {str(error).strip().splitlines()[0]}"
        return reference
    expected_ids, expected_offsets = reference.encode(texts)
    if np.array_equal(ids, expected_ids) and np.array_equal(offsets, expected_offsets):
        size = sum(len(t.encode()) for t in texts)
        fast.reason = f"same ids as tokenizers on {len(texts)} texts, {size} bytes"
        return fast
    reference.reason = f"gigatoken differs on {_first_difference(texts, fast, reference)}"
    return reference


def whole_ids(tokenizer: TokenizerFile, text: str) -> np.ndarray:
    """uint32 (tokens,): ids by tokenizers with special strings as control tokens, no BOS or EOS
    added: what a model is given for a rendered conversation."""
    backend = tokenizers.Tokenizer.from_str(tokenizer.json_text)
    return np.array(backend.encode(text, add_special_tokens=False).ids, np.uint32)


def _first_difference(texts: Sequence[str], one: Encoder, other: Encoder) -> str:
    for text in texts:
        if not np.array_equal(one.encode([text])[0], other.encode([text])[0]):
            return repr(text[:80])
    return "a batch, though on no single text"


def _gigatoken_encode(json_text: str) -> Encode:
    # It has no switch that keeps special strings as text, so it is loaded without them.
    tree = json.loads(json_text)
    tree["added_tokens"] = [t for t in tree.get("added_tokens") or [] if not t.get("special")]
    backend = gigatoken.Tokenizer.from_json(json.dumps(tree, ensure_ascii=False))

    def encode(texts: Sequence[str], utf8: Sequence[bytes] | None) -> Encoded:
        batch = list(texts) if utf8 is None else list(utf8)
        # parallel=False: the processes of the build are the parallelism.
        rows: Any = backend.encode_batch(batch, parallel=False)
        offsets = np.asarray(rows.layout.offsets.data, np.int64)
        ids = np.asarray(rows.layout.content.data, np.uint32)[offsets[0] : offsets[-1]]
        return ids, offsets - offsets[0]

    return encode


def _tokenizers_encode(json_text: str) -> Encode:
    backend = tokenizers.Tokenizer.from_str(json_text)
    backend.encode_special_tokens = True

    def encode(texts: Sequence[str], _: Sequence[bytes] | None) -> Encoded:
        rows = [r.ids for r in backend.encode_batch_fast(list(texts), add_special_tokens=False)]
        offsets = np.zeros(len(rows) + 1, np.int64)
        np.cumsum([len(r) for r in rows], out=offsets[1:])
        ids = np.fromiter(chain.from_iterable(rows), np.uint32, count=int(offsets[-1]))
        return ids, offsets

    return encode
