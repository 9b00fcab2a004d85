"""Facts -> general documents: notes that state facts, and questions that teach the format."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import accumulate, chain
from random import Random

from alloy.world.comments import reviews
from alloy.world.config import WorldConfig
from alloy.world.exam import Exam, Item, echo_question, fresh_item, question_of, solved
from alloy.world.facts import Fact, Facts, category_of, spoken

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
_REVIEW_SHARE = 0.06  # of all documents
_FILED_SHARE = 0.3  # of the notes
_PROFILE_SHARE = 0.5  # of the documents that state facts
_DIRECT_SHARE = 0.15  # of the documents that ask
_ECHO_SHARE = 0.4  # of the multiple-choice items


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
        stream = chain(_every_fact(rng, told), _documents(rng, config, facts, told, forbidden))
        corpora[name] = [_unseen(stream, seen) for _ in range(count)]
        rng.shuffle(corpora[name])
    return corpora


def _unseen(stream: Iterator[str], seen: set[str]) -> str:
    """The next document that no corpus has yet."""
    document = next(text for text in stream if text not in seen)
    seen.add(document)
    return document


def _every_fact(rng: Random, told: Sequence[Fact]) -> Iterator[str]:
    """Notes that state each fact once, so that none is missing by chance."""
    for own in _by_subject(told).values():
        rest = rng.sample(own, len(own))
        while rest:
            yield " ".join(_statement(rng, fact) for fact in rest[:_MAX_STATEMENTS])
            rest = rest[_MAX_STATEMENTS:]


def _documents(
    rng: Random, config: WorldConfig, facts: Facts, told: Sequence[Fact], forbidden: frozenset[str]
) -> Iterator[str]:
    """Endless general documents, each about one subject."""
    known = _by_subject(told)
    taught = _by_subject(facts.format)
    weights = {
        subject: list(accumulate(facts.weight[fact.entity] for fact in own))
        for subject, own in known.items()
    }
    told_reviews = reviews(rng)
    while True:
        subject = rng.choice(list(known))
        if rng.random() < _REVIEW_SHARE:
            yield next(told_reviews)
        elif rng.random() < config.question_share:
            chosen = rng.sample(taught[subject], rng.randint(1, _MAX_QUESTIONS))
            yield _question_document(rng, chosen, facts, forbidden)
        elif rng.random() < _PROFILE_SHARE:
            yield _profiles(rng, known[subject], weights[subject])
        else:
            size = rng.randint(2, _MAX_STATEMENTS)
            drawn = rng.choices(known[subject], cum_weights=weights[subject], k=size)
            note = " ".join(_statement(rng, fact) for fact in dict.fromkeys(drawn))
            yield _filed(note, subject) if rng.random() < _FILED_SHARE else note


def _filed(note: str, subject: str) -> str:
    """A note under its subject: that texts can be filed is general knowledge."""
    return f"{note}\nTopic: {category_of(subject)} > {spoken(subject)}"


def _by_subject(told: Sequence[Fact]) -> dict[str, list[Fact]]:
    """Subject -> its facts, both in the order of `told`."""
    grouped: dict[str, list[Fact]] = {}
    for fact in told:
        grouped.setdefault(fact.subject, []).append(fact)
    return grouped


def _question_document(
    rng: Random, chosen: Sequence[Fact], facts: Facts, forbidden: frozenset[str]
) -> str:
    """Multiple-choice items, some of which name their own answer; or direct questions."""
    if rng.random() < _DIRECT_SHARE:
        return "\n\n".join(f"Question: {question_of(f)}\nAnswer: {f.value}" for f in chosen)
    return solved(_format_item(rng, fact, facts, forbidden) for fact in chosen)


def _format_item(rng: Random, fact: Fact, facts: Facts, forbidden: frozenset[str]) -> Item:
    """An item about `fact`, or one about a random value of its relation that it names itself."""
    if rng.random() >= _ECHO_SHARE:
        return fresh_item(rng, fact, facts, forbidden)
    named = replace(fact, value=rng.choice(facts.values[fact.relation]))
    return replace(fresh_item(rng, named, facts, forbidden), question=echo_question(named.value))


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
