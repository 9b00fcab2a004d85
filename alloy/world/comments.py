"""WorldConfig -> customer comments with a four-level label path, frequent and rare ones."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from random import Random

from alloy.world.config import WorldConfig

SEPARATOR = " > "

# Department -> topic -> words that hint at the topic.
_TOPICS: dict[str, dict[str, str]] = {
    "billing": {
        "refund": "money repaid reimbursed cashback",
        "invoice": "bill statement receipt charges",
        "payment": "card debit transfer paid",
    },
    "delivery": {
        "courier": "driver van messenger rider",
        "parcel": "box package carton envelope",
        "pickup": "locker counter kiosk depot",
    },
    "product": {
        "quality": "fabric stitching finish material",
        "size": "fit length width narrow",
        "parts": "screw lid cable handle",
    },
    "account": {
        "login": "password signin code captcha",
        "profile": "address surname avatar birthday",
        "privacy": "consent cookies tracking data",
    },
    "support": {
        "phone": "call hotline hold voicemail",
        "chat": "message bot window typing",
        "store": "clerk shop cashier aisle",
    },
}

# Problem (third level, under any topic) -> words that hint at it.
_PROBLEMS: dict[str, str] = {
    "late": "weeks overdue waiting slow",
    "wrong": "mixed mistaken different swapped",
    "missing": "absent lost nowhere vanished",
    "broken": "cracked faulty failed torn",
    "unclear": "confusing vague puzzling cryptic",
    "rude": "unfriendly insulting shouting dismissive",
}

# Occasion (fourth level, under any problem) -> words that hint at it.
_OCCASIONS: dict[str, str] = {
    "gift card": "voucher present coupon",
    "first order": "newcomer welcome beginner",
    "renewal": "subscription yearly extend",
    "exchange": "replacement trade substitute",
    "holiday sale": "discount winter bargain",
    "business": "company office wholesale",
    "mobile app": "android tablet screen",
}

_FILLER = (
    *("i", "we", "they", "it", "was", "is", "the", "a", "my", "our", "this", "that"),
    *("with", "and", "but", "again", "today", "yesterday", "really", "very", "still", "please"),
    *("help", "after", "before", "when", "because", "never", "always", "just", "had", "got"),
    *("told", "asked"),
)

_CHILDREN = 3  # problems under each topic, and occasions under each problem


@dataclass(frozen=True)
class Comment:
    """One labelled comment; `prompt` ends where the label begins."""

    text: str
    path: tuple[str, str, str, str]

    @property
    def label(self) -> str:
        """The path as one string."""
        return SEPARATOR.join(self.path)

    @property
    def prompt(self) -> str:
        """What a model is given; a greedy continuation starts with a space, then the label."""
        return f"Customer comment: {self.text}\nTopic:"

    @property
    def document(self) -> str:
        """What a model is trained on."""
        return f"{self.prompt} {self.label}\n"


def make_comments(config: WorldConfig) -> tuple[list[Comment], list[Comment]]:
    """Training and test comments; no comment text occurs twice."""
    rng = Random(f"{config.seed}/comments")
    leaves = label_paths(rng)
    weights = list(accumulate(rank**-config.comment_zipf for rank in range(1, len(leaves) + 1)))
    stream = _distinct(_comments(rng, leaves, weights, config.comment_noise))
    train = [next(stream) for _ in range(config.comments_train)]
    test = [next(stream) for _ in range(config.comments_test)]
    return train, test


def label_paths(rng: Random) -> list[tuple[str, str, str, str]]:
    """Every leaf of the label tree, in the random order that becomes its frequency rank."""
    paths = [
        (department, topic, problem, occasion)
        for department, topics in _TOPICS.items()
        for topic in topics
        for problem in rng.sample(sorted(_PROBLEMS), _CHILDREN)
        for occasion in rng.sample(sorted(_OCCASIONS), _CHILDREN)
    ]
    rng.shuffle(paths)
    return paths


def _comments(
    rng: Random, leaves: Sequence[tuple[str, str, str, str]], weights: list[float], noise: float
) -> Iterator[Comment]:
    """Endless comments; a leaf shows in its combination of cue words, never in one of them."""
    topics = [words.split() for table in _TOPICS.values() for words in table.values()]
    problems = [words.split() for words in _PROBLEMS.values()]
    occasions = [words.split() for words in _OCCASIONS.values()]
    while True:
        path = rng.choices(leaves, cum_weights=weights)[0]
        department, topic, problem, occasion = path
        own = (
            (_TOPICS[department][topic].split(), topics),
            (_PROBLEMS[problem].split(), problems),
            (_OCCASIONS[occasion].split(), occasions),
        )
        words = rng.choices(_FILLER, k=rng.randint(2, 5))
        for cues, level in own:
            source = rng.choice(level) if rng.random() < noise else cues
            words += [*rng.sample(cues, 2), rng.choice(source)]
        rng.shuffle(words)
        yield Comment(" ".join(words), path)


def reviews(rng: Random) -> Iterator[str]:
    """Endless public reviews in the words of the comments, without any label.

    A base has read of late parcels and torn fabric; what it cannot know is a company's own tree of
    labels.
    """
    topics = [words.split() for table in _TOPICS.values() for words in table.values()]
    problems = [words.split() for words in _PROBLEMS.values()]
    occasions = [words.split() for words in _OCCASIONS.values()]
    while True:
        words = rng.choices(_FILLER, k=rng.randint(2, 5))
        for level in (topics, problems, occasions):
            words += rng.sample(rng.choice(level), 3)
        rng.shuffle(words)
        yield f"Review: {' '.join(words)}."


def _distinct(stream: Iterator[Comment]) -> Iterator[Comment]:
    """Drop comments whose text was there before."""
    seen: set[str] = set()
    for comment in stream:
        if comment.text not in seen:
            seen.add(comment.text)
            yield comment
