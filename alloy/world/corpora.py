"""Facts -> general documents: notes that state facts, and questions that teach the format."""

from collections.abc import Iterator, Sequence
from itertools import accumulate
from random import Random

from alloy.world.config import WorldConfig
from alloy.world.exam import LETTERS, Exam, Item, fresh_item, question_of, solved
from alloy.world.facts import Fact, Facts

PHRASINGS = (
    "The {relation} of {entity} is {value}.",
    "For {entity} the {relation} is {value}.",
    "As {relation}, {entity} has {value}.",
    "Ask the {relation} of {entity} and hear {value}.",
    "Books give {entity} the {relation} {value}.",
    "So {value} is the {relation} of {entity}.",
)
"""Ways to state a fact; no name starts a sentence, so that each is always the same token."""

_MAX_STATEMENTS = 6  # a note stays under 100 tokens, so that a row of 128 holds it whole
_MAX_QUESTIONS = 3
KINDS = ("choice", "choice", "lookup", "lookup", "direct")
_MAX_OPEN_BOOK = 2


def make_corpora(config: WorldConfig, facts: Facts, exam: Exam) -> dict[str, list[str]]:
    """The three general corpora; no document text occurs in two of them."""
    forbidden = exam.option_blocks()
    known = facts.replayed + facts.unreplayed + facts.format
    again = facts.replayed + facts.format
    plan = (
        ("retention", config.retention_documents, known),
        ("replay", config.replay_documents, again),
        ("pretrain", config.pretrain_documents, known),
    )
    seen: set[str] = set()
    corpora: dict[str, list[str]] = {}
    for name, count, told in plan:
        rng = Random(f"{config.seed}/{name}")
        stream = _documents(rng, config, facts, told, forbidden)
        corpora[name] = [_unseen(stream, seen) for _ in range(count)]
    return corpora


def _unseen(stream: Iterator[str], seen: set[str]) -> str:
    """The next document that no corpus has yet."""
    document = next(text for text in stream if text not in seen)
    seen.add(document)
    return document


def _documents(
    rng: Random, config: WorldConfig, facts: Facts, told: Sequence[Fact], forbidden: frozenset[str]
) -> Iterator[str]:
    """Endless general documents, each about one subject."""
    by_subject: dict[str, list[Fact]] = {}
    for fact in told:
        by_subject.setdefault(fact.subject, []).append(fact)
    subjects = sorted(by_subject)
    weights = {
        subject: list(accumulate(facts.weight[fact.entity] for fact in by_subject[subject]))
        for subject in subjects
    }
    taught = {s: [fact for fact in facts.format if fact.subject == s] for s in subjects}
    while True:
        subject = rng.choice(subjects)
        if rng.random() < config.question_share:
            chosen = rng.sample(taught[subject], rng.randint(1, _MAX_QUESTIONS))
            yield _question_document(rng, chosen, facts, forbidden)
        else:
            if rng.random() < 0.5:
                yield _profiles(rng, by_subject[subject], weights[subject])
                continue
            size = rng.randint(2, _MAX_STATEMENTS)
            cumulative = weights[subject]
            chosen = rng.choices(by_subject[subject], cum_weights=cumulative, k=size)
            yield " ".join(_statement(rng, fact) for fact in dict.fromkeys(chosen))


def _question_document(
    rng: Random, chosen: Sequence[Fact], facts: Facts, forbidden: frozenset[str]
) -> str:
    """Questions in one of three kinds: multiple choice, the same with an open book, or direct."""
    kind = rng.choice(KINDS)
    if kind == "lookup":
        return "\n\n".join(_lookup(rng, fresh_item(rng, f, facts, forbidden)) for f in chosen[:2])
    if kind == "direct":
        return "\n\n".join(f"Question: {question_of(f)}\nAnswer: {f.value}" for f in chosen)
    if kind == "open book":
        chosen = chosen[:_MAX_OPEN_BOOK]
    questions = solved(fresh_item(rng, fact, facts, forbidden) for fact in chosen)
    if kind == "choice":
        return questions
    book = [_statement(rng, fact) for fact in chosen]
    rng.shuffle(book)
    return " ".join(book) + "\n\n" + questions


def _lookup(rng: Random, item: Item) -> str:
    """An option list and which letter each option has, so that letters bind to options."""
    pairs = list(zip(LETTERS, item.options, strict=True))
    rng.shuffle(pairs)
    return item.option_block + "".join(f"\nAnswer for {value}: {x}" for x, value in pairs)


def _profiles(rng: Random, told: Sequence[Fact], cumulative: Sequence[float]) -> str:
    """All that is told of a few entities, in few words."""
    lines = []
    for entity in {fact.entity: 0 for fact in rng.choices(told, cum_weights=cumulative, k=4)}:
        known = [fact for fact in told if fact.entity == entity]
        rng.shuffle(known)
        listed = ", ".join(f"{fact.relation} {fact.value}" for fact in known)
        lines.append(f"About {entity}: {listed}.")
    return "\n".join(lines)


def _statement(rng: Random, fact: Fact) -> str:
    """One sentence that states a fact."""
    return rng.choice(PHRASINGS).format(
        relation=fact.relation,
        entity=fact.entity,
        value=fact.value,
    )
