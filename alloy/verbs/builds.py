"""build: the sources of a recipe, tokenized into the store."""

from dataclasses import dataclass

from alloy.runs import build_recipe, open_built
from alloy.verbs.result import Progress, Result, to_stderr
from alloy.verbs.text_tables import packing_lines, removal_line, table
from configs import CheckFailed, Recipe
from mixing.audit import PackingLedger
from mixing.building import SourceReport
from mixing.corpus import Removed


@dataclass(frozen=True)
class BuildResult(Result):
    """What became of every document of every source."""

    sources: tuple[SourceReport, ...]
    packing: dict[str, PackingLedger]
    """What became of the stored documents when they were packed, by trained source."""
    decontaminated: tuple[Removed, ...]
    """What each eval set took from each source."""
    ledger_balanced: bool
    """Whether every ledger adds up: nothing was lost without a reason."""

    def table(self) -> str:
        """A row for each source, and a line for each reason why something was left out."""
        rows = [
            [
                r.name,
                r.role,
                f"{r.documents_in:,}",
                f"{r.documents_written:,}",
                f"{sum(r.dropped.values()):,}",
                f"{r.tokens:,}",
                str(r.shards),
                "reused" if r.reused else f"{r.seconds:.1f} s",
            ]
            for r in self.sources
        ]
        header = ["source", "role", "documents in", "written", "dropped", "tokens", "shards"]
        dropped = [
            f"{r.name}: dropped {count:,} {reason}, listed in {r.quarantine}"
            for r in self.sources
            for reason, count in sorted(r.dropped.items())
        ]
        left_out = [*packing_lines(self.packing), *map(removal_line, self.decontaminated)]
        return "\n".join([table([*header, "time"], rows), *dropped, *left_out])

    def require_balanced(self) -> None:
        """Raises CheckFailed where a ledger does not add up."""
        if not self.ledger_balanced:
            raise CheckFailed("a ledger does not balance, see `alloy build --json`", "report it")


def build(recipe: Recipe, progress: Progress = to_stderr) -> BuildResult:
    """Tokenize the sources of a recipe into its store; what is built already is reused.

    Raises UserError for sources that cannot be read, and CheckFailed where more rows are bad than
    the recipe allows.

    >>> import alloy
    >>> built = alloy.build(alloy.load("recipe.yaml"))
    >>> [source.name for source in built.sources], built.ledger_balanced
    (['own', 'web', 'wiki'], True)
    """
    reports = build_recipe(recipe, progress)
    corpus = open_built(recipe, {r.name: r.key for r in reports})
    ledgers = corpus.ledgers
    balanced = all(r.ledger_balanced for r in reports)
    return BuildResult(
        sources=tuple(reports),
        packing=ledgers,
        decontaminated=tuple(corpus.removed),
        ledger_balanced=balanced and all(ledger.balanced for ledger in ledgers.values()),
    )
