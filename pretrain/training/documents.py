"""The documents on which bits per byte are measured: held-out text and retention text."""

from collections.abc import Iterator

from configs import UserError
from evals.scoring import EvalDocument
from mixing.corpus import Corpus
from mixing.selection import KEPT, heldout_documents
from mixing.tokens import Decoder, TokenizerFile

PASSAGES = 32
"""A document gives at most the 32nd part of its source's tokens: intervals are over documents."""


def corpus_documents(
    corpus: Corpus, tokenizer: TokenizerFile, most_tokens: int
) -> Iterator[EvalDocument]:
    """Held-out text of the trained sources and all retention text, in document order.

    Of each source as many documents as fit into ``most_tokens``, at least one; of a document at
    most its first ``most_tokens / PASSAGES`` tokens, so that a few long ones do not stand for the
    source (whole where the tokenizer is not BPE: the bytes of a part are not known then). The
    tokens that the build put around a document are left out: they stand for no byte of text. Of
    a conversation the whole rendering counts, not only what is supervised.
    """
    longest = max(1, most_tokens // PASSAGES)
    decoder = _bpe_decoder(tokenizer)
    for name, source in corpus.sources.items():
        reader, reasons = corpus.readers[name], corpus.reasons[name]
        ends = reader.manifest["tokenizer"]
        begin, has_eos = int(ends["bos_id"] is not None), int(ends["eos_id"] is not None)
        retention = source.role == "retention"
        chosen = (reasons == KEPT).nonzero()[0] if retention else heldout_documents(reasons)
        total = 0
        for document in chosen:
            tokens = reader.tokens(int(document))
            tokens = tokens[begin : len(tokens) - has_eos]
            text_bytes = int(reader.text_bytes[document])
            if len(tokens) > longest and decoder is not None:
                tokens = tokens[:longest]
                text_bytes = int(decoder.token_ends(tokens)[-1])
            total += len(tokens)
            if total > most_tokens and total > len(tokens):
                break
            yield EvalDocument(
                source=name,
                role=source.role,
                split="retention" if retention else "heldout",
                id=reader.provenance(int(document)).id,
                token_ids=tokens,
                text_bytes=text_bytes,
            )


def _bpe_decoder(tokenizer: TokenizerFile) -> Decoder | None:
    try:
        return Decoder(tokenizer)
    except UserError:
        return None
