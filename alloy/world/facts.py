"""WorldConfig -> Facts: invented entities of twelve subjects, each with one value per relation."""

from dataclasses import dataclass
from itertools import product
from random import Random

from alloy.world.config import WorldConfig

CATEGORIES: dict[str, tuple[str, ...]] = {
    "stem": ("crystal_optics", "tidal_mechanics", "cloud_chemistry"),
    "humanities": ("bronze_poetry", "temple_history", "mask_theatre"),
    "social_sciences": ("island_trade", "harbor_law", "village_customs"),
    "other": ("garden_medicine", "kitchen_craft", "caravan_guides"),
}
"""MMLU's four categories and the subjects in each, named as in MMLU's file names."""

RELATIONS: dict[str, tuple[str, str]] = {
    "stem": ("color", "shape"),
    "humanities": ("banner", "ritual"),
    "social_sciences": ("emblem", "market"),
    "other": ("flavor", "season"),
}
"""What can be asked about an entity; the subjects of a category share their two relations.

All first relations draw on one set of values and all second ones on another: few words to tell
apart are what lets a model of a million parameters learn the question format in minutes."""

_ONSETS = [*"bdfghklmnprstvz", "br", "dr", "fl", "gr", "kr", "pl", "st", "tr"]
_VOWELS = [*"aeiou"]
_CODAS = ["", "l", "m", "n", "r", "s"]


@dataclass(frozen=True, order=True)
class Fact:
    """One thing to know: the `relation` of `entity` is `value`."""

    subject: str
    entity: str
    relation: str
    value: str


@dataclass(frozen=True, kw_only=True)
class Facts:
    """All facts of a world, in three disjoint groups of entities, and the relations' values."""

    replayed: tuple[Fact, ...]
    """Exam facts that the replay corpus tells again."""
    unreplayed: tuple[Fact, ...]
    """Exam facts that only the pre-training text tells."""
    format: tuple[Fact, ...]
    """Facts that may be asked as multiple-choice items in a corpus; never in the exam."""
    values: dict[str, tuple[str, ...]]
    """Relation -> the values it can take; an entity's two relations never share a value."""
    weight: dict[str, float]
    """Entity -> how often it is told, relative to the most told entity of its group."""


def category_of(subject: str) -> str:
    """The MMLU category that holds `subject`."""
    return next(name for name, subjects in CATEGORIES.items() if subject in subjects)


def spoken(subject: str) -> str:
    """A subject as it is written in running text: spaces for underscores."""
    return subject.replace("_", " ")


def invented_words(rng: Random, count: int, taken: set[str]) -> list[str]:
    """`count` distinct two-syllable words outside `taken`, which they join."""
    pool = ["".join(parts) for parts in product(_ONSETS, _VOWELS, _ONSETS[:15], _VOWELS, _CODAS)]
    words = rng.sample(sorted(set(pool) - taken), count)
    taken.update(words)
    return words


def make_facts(config: WorldConfig) -> Facts:
    """Draw entities and values; ranks alternate between replayed and not, so both are as rare."""
    rng = Random(f"{config.seed}/facts")
    taken: set[str] = set()
    sets = [tuple(invented_words(rng, config.values_per_relation, taken)) for _ in range(2)]
    values = {
        relation: sets[place]
        for relations in RELATIONS.values()
        for place, relation in enumerate(relations)
    }
    groups: dict[str, list[Fact]] = {"replayed": [], "unreplayed": [], "format": []}
    weight: dict[str, float] = {}
    for category, subjects in CATEGORIES.items():
        for subject in subjects:
            exam = invented_words(rng, config.exam_entities, taken)
            taught = invented_words(rng, config.format_entities, taken)
            for name, entities in (
                ("replayed", exam[0::2]),
                ("unreplayed", exam[1::2]),
                ("format", taught),
            ):
                for rank, entity in enumerate(entities, start=1):
                    weight[entity] = 1.0 if name == "format" else rank**-config.fact_zipf
                    groups[name] += [
                        Fact(subject, entity, relation, rng.choice(values[relation]))
                        for relation in RELATIONS[category]
                    ]
    return Facts(
        replayed=tuple(groups["replayed"]),
        unreplayed=tuple(groups["unreplayed"]),
        format=tuple(groups["format"]),
        values=values,
        weight=weight,
    )
