"""Facts -> multiple-choice items: the exam's rows, and fresh items that only teach the format."""

from collections.abc import Iterable
from dataclasses import dataclass
from random import Random

from alloy.world.config import WorldConfig
from alloy.world.facts import CATEGORIES, Fact, Facts, spoken

LETTERS = "ABCD"
DEV_ITEMS = 5  # rows of MMLU's dev split, per subject
_MAX_DRAWS = 200  # then the last draw stands, and a letter is one too many


@dataclass(frozen=True)
class Item:
    """One multiple-choice question; `answer` indexes `options`."""

    subject: str
    question: str
    options: tuple[str, str, str, str]
    answer: int
    replayed: bool = False

    @property
    def letter(self) -> str:
        """The right letter, A to D."""
        return LETTERS[self.answer]

    @property
    def option_block(self) -> str:
        """The four option lines, as lm-eval renders them."""
        return "\n".join(f"{x}. {y}" for x, y in zip(LETTERS, self.options, strict=True))


@dataclass(frozen=True, kw_only=True)
class Exam:
    """The exam: items in file order."""

    dev: dict[str, tuple[Item, ...]]
    """Subject -> its five dev rows."""
    test: dict[str, tuple[Item, ...]]
    """Subject -> its test rows."""

    def items(self) -> list[Item]:
        """Every row of both splits."""
        return [item for split in (self.dev, self.test) for rows in split.values() for item in rows]

    def option_blocks(self) -> frozenset[str]:
        """What no corpus may contain, beside the question lines."""
        return frozenset(item.option_block for item in self.items())


def question_of(fact: Fact) -> str:
    """The question line that asks for the value of a fact."""
    return f"What is the {fact.relation} of {fact.entity}?"


def echo_question(value: str) -> str:
    """A question that names its own answer; it teaches the format without a fact."""
    return f"Which option is {value}?"


def make_item(rng: Random, fact: Fact, facts: Facts, *, replayed: bool = False) -> Item:
    """Ask for `fact` beside three wrong values of the same relation, all in alphabetical order.

    MMLU's numeric options mostly stand in numeric order too. A model must know the value and how
    it compares with the others; finding a letter by looking the value up in an unordered list
    takes tiny models far longer to learn than a demo lasts. The wrong values are drawn uniformly:
    given the options alone, each letter is as likely.
    """
    wrong = rng.sample([value for value in facts.values[fact.relation] if value != fact.value], 3)
    first, second, third, fourth = options = sorted([fact.value, *wrong])
    answer = options.index(fact.value)
    return Item(fact.subject, question_of(fact), (first, second, third, fourth), answer, replayed)


def fresh_item(rng: Random, fact: Fact, facts: Facts, forbidden: frozenset[str]) -> Item:
    """An item for a corpus; its option block is none of the exam's."""
    while True:
        item = make_item(rng, fact, facts)
        if item.option_block not in forbidden:
            return item


def description(subject: str) -> str:
    """The line lm-eval puts before MMLU questions, with the blank line that follows it."""
    about = spoken(subject)
    return f"The following are multiple choice questions (with answers) about {about}.\n\n"


def solved(items: Iterable[Item]) -> str:
    """A document of answered questions in lm-eval's MMLU format."""
    rows = list(items)
    body = (f"{item.question}\n{item.option_block}\nAnswer: {item.letter}" for item in rows)
    return description(rows[0].subject) + "\n\n".join(body)


def make_exam(config: WorldConfig, facts: Facts) -> Exam:
    """Half of each subject's test rows ask replayed facts; each letter is right equally often."""
    rng = Random(f"{config.seed}/exam")
    dev: dict[str, tuple[Item, ...]] = {}
    test: dict[str, tuple[Item, ...]] = {}
    for subject in (name for subjects in CATEGORIES.values() for name in subjects):
        half = config.test_items // 2
        replayed = rng.sample([fact for fact in facts.replayed if fact.subject == subject], half)
        pool = [fact for fact in facts.unreplayed if fact.subject == subject]
        unreplayed = rng.sample(pool, half + DEV_ITEMS)
        shown, unreplayed = unreplayed[:DEV_ITEMS], unreplayed[DEV_ITEMS:]
        asked = [(fact, True) for fact in replayed] + [(fact, False) for fact in unreplayed]
        test[subject] = tuple(_rows(rng, asked, facts))
        dev[subject] = tuple(_rows(rng, [(fact, False) for fact in shown], facts))
    return Exam(dev=dev, test=test)


def _rows(rng: Random, asked: list[tuple[Fact, bool]], facts: Facts) -> list[Item]:
    """Items in shuffled order; letters are balanced within replayed and unreplayed apart."""
    items = []
    for group in (True, False):
        items += _balanced(rng, [fact for fact, flag in asked if flag is group], facts, group)
    rng.shuffle(items)
    return items


def _balanced(rng: Random, chosen: list[Fact], facts: Facts, replayed: bool) -> list[Item]:
    """One item a fact, redrawn while its letter has had its quarter.

    Values near an end of the alphabet have the least choice of letters, so they go first.
    """

    def choice_of_letters(fact: Fact) -> int:
        values = sorted(facts.values[fact.relation])
        return min(values.index(fact.value), len(values) - 1 - values.index(fact.value))

    left = [len(chosen) // 4 + (place < len(chosen) % 4) for place in range(4)]
    items = []
    for fact in sorted(chosen, key=choice_of_letters):
        draws = (make_item(rng, fact, facts, replayed=replayed) for _ in range(_MAX_DRAWS))
        item = next(draws)
        while left[item.answer] <= 0 and (drawn := next(draws, None)) is not None:
            item = drawn
        left[item.answer] -= 1
        items.append(item)
    return items
