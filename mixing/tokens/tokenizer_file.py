"""A ``tokenizer.json``, and what must be known of it besides the ids that it gives."""

import json
import re
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import xxhash

from configs import UserError

END_OF_TEXT_NAMES = frozenset(
    {
        "<|endoftext|>",
        "<|end_of_text|>",
        "</s>",
        "<eos>",
        "[EOS]",
        "<|eos|>",
        "<|end▁of▁sentence|>",
        "<|end_of_sentence|>",
        "<eod>",
        "<EOT>",
    }
)
"""What the open model families call the token between two documents."""

CHAT_TEMPLATE = "chat_template.jinja"


@dataclass(frozen=True)
class ChatSettings:
    """What the files beside a tokenizer.json say about conversations.

    ``tokens`` are special tokens by the names that templates use (bos_token, eos_token, ...).
    """

    template: str | None = None
    tokens: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class TokenizerFile:
    """A ``tokenizer.json`` and what the build needs to know of it.

    ``content_hash`` covers what decides ids (not truncation, padding or key order).
    ``vocab_size`` is the largest id + 1. ``bos_id`` is None unless the tokenizer's own
    post-processor puts a token before the text. ``chat`` is about conversations alone and decides
    nothing for plain text.
    """

    json_text: str
    content_hash: str
    vocab_size: int
    eos_id: int
    bos_id: int | None
    chat: ChatSettings = ChatSettings()

    @cached_property
    def special_strings(self) -> tuple[str, ...]:
        """Texts that both libraries would turn into a control token if let."""
        added = json.loads(self.json_text).get("added_tokens") or []
        return tuple(t["content"] for t in added if t.get("special"))

    @cached_property
    def control_ids(self) -> dict[str, int]:
        """Ids of special tokens, BOS and EOS, by the text that stands for each."""
        tree = json.loads(self.json_text)
        ids = _ids_by_token(tree)
        ends = {self.eos_id, self.bos_id} - {None}
        named = {text: number for text, number in ids.items() if number in ends}
        return {**named, **{s: ids[s] for s in self.special_strings}}

    @cached_property
    def swallowed_space(self) -> dict[str, tuple[bool, bool]]:
        """Special tokens that take the white space (before, after) them with them."""
        added = json.loads(self.json_text).get("added_tokens") or []
        return {
            t["content"]: (bool(t.get("lstrip")), bool(t.get("rstrip")))
            for t in added
            if t.get("special")
        }

    def token_text(self, token_id: int | None) -> str:
        """The text of BOS or EOS; empty for None."""
        return next((s for s, number in self.control_ids.items() if number == token_id), "")

    @property
    def token_dtype(self) -> str:
        """Smallest little-endian type that holds every id."""
        return "<u2" if self.vocab_size <= 1 << 16 else "<u4"


def load_tokenizer(name: str) -> TokenizerFile:
    """Load a tokenizer.json, a folder that holds one, or that of a hub id (``id@revision``).

    In a folder or on the hub, tokenizer_config.json and then config.json say which token ends a
    text. A bare file says so by its names: exactly one special token must be called as one of
    END_OF_TEXT_NAMES. Raises UserError naming what is missing.
    """
    path = Path(name).expanduser()
    if path.is_file():
        found = parse_tokenizer(_read_text(path), {}, {}, origin=name)
        return replace(found, chat=_chat_beside(path.parent)) if _has_own_name(path) else found
    if path.is_dir():
        if not (path / "tokenizer.json").is_file():
            raise UserError(
                f"{name}: no tokenizer.json in this folder",
                "save the tokenizer with transformers (use_fast=True) to get one",
            )
        files = {n: path / n for n in ("tokenizer_config.json", "config.json")}
        configs = {n: _read_json(p) if p.is_file() else {} for n, p in files.items()}
        text = _read_text(path / "tokenizer.json")
        found = parse_tokenizer(
            text, configs["tokenizer_config.json"], configs["config.json"], origin=name
        )
        return replace(found, chat=_chat_beside(path))
    if re.fullmatch(r"[\w.-]+(/[\w.-]+)?(@[\w./-]+)?", name) and not name.endswith(".json"):
        return _from_hub(name)
    raise UserError(f"{name}: no such tokenizer file or folder", "check data.tokenizer")


def parse_tokenizer(
    json_text: str, tokenizer_config: dict[str, Any], model_config: dict[str, Any], origin: str
) -> TokenizerFile:
    """Make a TokenizerFile from the texts of its files; ``origin`` is named in errors."""
    try:
        tree = json.loads(json_text)
    except ValueError as error:
        raise UserError(f"{origin}: not JSON ({error})", "give a tokenizer.json") from None
    if not isinstance(tree, dict) or not isinstance(tree.get("model"), dict):
        raise UserError(f"{origin}: no 'model' in it", "give a tokenizer.json of tokenizers")
    # Both are settings of a call, not of the vocabulary, and truncation would cut documents.
    tree = {**tree, "truncation": None, "padding": None}
    ids = _ids_by_token(tree)
    eos_id = _eos_id(tree, ids, tokenizer_config, model_config, origin)
    canonical = json.dumps(tree, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return TokenizerFile(
        json_text=json.dumps(tree, ensure_ascii=False),
        content_hash=xxhash.xxh3_128_hexdigest(canonical.encode()),
        vocab_size=max(ids.values()) + 1,
        eos_id=eos_id,
        bos_id=_leading_id(tree.get("post_processor"), ids),
    )


def _has_own_name(path: Path) -> bool:
    """Whether files beside it can be about it: several tokenizers may share a folder."""
    return path.name == "tokenizer.json"


def _chat_beside(folder: Path) -> ChatSettings:
    config, template = folder / "tokenizer_config.json", folder / CHAT_TEMPLATE
    return parse_chat(
        _read_json(config) if config.is_file() else {},
        _read_text(template) if template.is_file() else None,
    )


def parse_chat(tokenizer_config: dict[str, Any], template: str | None) -> ChatSettings:
    """``template`` is the text of chat_template.jinja, which goes before tokenizer_config.json;
    of several templates there, the one called default."""
    own = tokenizer_config.get("chat_template")
    if isinstance(own, list):
        named = {t.get("name"): t.get("template") for t in own if isinstance(t, dict)}
        own = named.get("default")
    tokens = {
        key: value["content"] if isinstance(value, dict) else value
        for key, value in tokenizer_config.items()
        if key.endswith("_token") and isinstance(value, str | dict)
    }
    return ChatSettings(template or (own if isinstance(own, str) else None), tokens)


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 at byte {error.start}", "save it again") from None
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}", "check the file's permissions") from None


def _read_json(path: Path) -> dict[str, Any]:
    try:
        tree = json.loads(_read_text(path))
    except ValueError as error:
        raise UserError(f"{path}: not JSON ({error})", "save it again") from None
    return tree if isinstance(tree, dict) else {}


def _from_hub(name: str) -> TokenizerFile:
    import huggingface_hub  # over half a second, and most recipes name a folder
    from httpx2 import HTTPError
    from huggingface_hub.errors import EntryNotFoundError, RemoteEntryNotFoundError

    repo, _, revision = name.partition("@")

    def fetch(file: str) -> Path:
        return Path(huggingface_hub.hf_hub_download(repo, file, revision=revision or None))

    def optional(file: str) -> dict[str, Any]:
        try:
            return _read_json(fetch(file))
        except EntryNotFoundError:
            return {}

    def template() -> str | None:
        try:
            return _read_text(fetch(CHAT_TEMPLATE))
        except EntryNotFoundError:
            return None

    try:
        text = _read_text(fetch("tokenizer.json"))
        config = optional("tokenizer_config.json")
        found = parse_tokenizer(text, config, optional("config.json"), origin=name)
        return replace(found, chat=parse_chat(config, template()))
    except RemoteEntryNotFoundError:  # a hub that does not answer raises a local one
        raise UserError(f"{name}: the hub has no tokenizer.json there", "name another") from None
    except (OSError, HTTPError, ValueError) as error:
        reason = str(error).strip().splitlines()[0][:160] if str(error).strip() else "no answer"
        raise UserError(
            f"{name}: no such file or folder here, and not to be had from the hub ({reason})",
            "download the tokenizer, then give its folder or tokenizer.json",
        ) from None


def _ids_by_token(tree: dict[str, Any]) -> dict[str, int]:
    vocab = tree["model"].get("vocab") or {}
    if isinstance(vocab, dict):
        ids = dict(vocab)
    else:  # Unigram: a list of [token, log probability]
        ids = {token: index for index, (token, _) in enumerate(vocab)}
    ids.update({t["content"]: t["id"] for t in tree.get("added_tokens") or []})
    if not ids:
        raise UserError("the tokenizer has no vocabulary", "give the tokenizer of a model")
    return ids


def _eos_id(
    tree: dict[str, Any],
    ids: dict[str, int],
    tokenizer_config: dict[str, Any],
    model_config: dict[str, Any],
    origin: str,
) -> int:
    token = tokenizer_config.get("eos_token")
    token = token.get("content") if isinstance(token, dict) else token
    if token is not None:
        if token not in ids:
            raise UserError(
                f"{origin}: eos_token {token!r} is not in the vocabulary",
                "correct tokenizer_config.json",
            )
        return ids[token]
    if isinstance(model_config.get("eos_token_id"), int):
        return model_config["eos_token_id"]
    specials = [t["content"] for t in tree.get("added_tokens") or [] if t.get("special")]
    named = [s for s in specials if s in END_OF_TEXT_NAMES]
    if len(named) == 1:
        return ids[named[0]]
    seen = ", ".join(repr(s) for s in (named or specials)[:12]) or "none"
    raise UserError(
        f"{origin}: which token ends a text is not clear; candidates: {seen}",
        "give a folder with tokenizer.json and a tokenizer_config.json that has eos_token",
    )


def _leading_id(processor: dict[str, Any] | None, ids: dict[str, int]) -> int | None:
    """Id that a post-processor puts before a single text, or None."""
    if not processor:
        return None
    kind = processor.get("type")
    if kind == "Sequence":
        found = (_leading_id(p, ids) for p in processor.get("processors") or [])
        return next((i for i in found if i is not None), None)
    if kind == "TemplateProcessing":
        first = (processor.get("single") or [{}])[0].get("SpecialToken")
        if first is None:
            return None
        entry = (processor.get("special_tokens") or {}).get(first["id"])
        return entry["ids"][0] if entry else ids[first["id"]]
    if kind in ("BertProcessing", "RobertaProcessing"):
        return processor["cls"][1]
    return None
