"""Plans a recipe: exactly where the sources are built, by an estimate where they are not."""

from dataclasses import dataclass

from alloy.planning.decontamination import eval_hashes, eval_sets
from alloy.planning.estimate import estimated_source
from alloy.planning.starting import StartPoint, start_point
from alloy.planning.tokenizing import open_tokenizer
from configs import Data, Recipe
from mixing.audit import PackingLedger
from mixing.blend import Plan, PlanSource, RowReader, carried_on, compile_plan, plan_source
from mixing.building import find_source
from mixing.corpus import Corpus, is_searched, open_corpus
from mixing.tokens import TokenizerFile


@dataclass(frozen=True)
class Planned:
    """A plan and what it was made from; without a corpus the plan is an estimate."""

    plan: Plan
    start: StartPoint
    tokenizer: TokenizerFile
    keys: dict[str, str]
    """Content addresses of the built sources, by name."""
    eval_hashes: dict[str, str]
    """Content hashes of the evals that are kept out of the corpus, by name."""
    corpus: Corpus | None

    @property
    def ledgers(self) -> dict[str, PackingLedger]:
        """What became of the stored documents, by source; empty for an estimate."""
        return {} if self.corpus is None else self.corpus.ledgers

    def rows(self) -> RowReader:
        assert self.corpus is not None
        return RowReader(
            self.plan, self.corpus.readers, self.corpus.packed, pad_id=self.tokenizer.eos_id
        )


def plan_recipe(recipe: Recipe, verify: bool = False) -> Planned:
    """Plan without building anything; reads only what is there, ``verify``: and all of the base."""
    tokenizer = open_tokenizer(recipe)
    start = start_point(recipe, verify)
    found = {s.name: find_source(s, recipe.data, tokenizer) for s in recipe.data.sources}
    keys = {name: key for name, key in found.items() if key is not None}
    hashes = eval_hashes(eval_sets(recipe))
    ready = len(keys) == len(found) and is_searched(recipe.data, keys, hashes)
    corpus = open_corpus(recipe.data, keys, hashes) if ready else None
    if corpus is not None:
        sources = _built_sources(corpus, keys)
        if start.cursors is not None:
            sources = carried_on(sources, start.cursors, recipe.data)
    else:
        sources = _estimated_sources(recipe.data, tokenizer)
    plan = compile_plan(sources, recipe.data, recipe.mix, start.schedule, estimated=corpus is None)
    return Planned(plan, start, tokenizer, keys, hashes, corpus)


def _built_sources(corpus: Corpus, keys: dict[str, str]) -> list[PlanSource]:
    return [
        plan_source(name, corpus.sources[name].role, corpus.sources[name].max_epochs, keys[name], p)
        for name, p in corpus.packed.items()
    ]


def _estimated_sources(data: Data, tokenizer: TokenizerFile) -> list[PlanSource]:
    trained = (s for s in data.sources if s.role != "retention")
    return [estimated_source(source, data, tokenizer) for source in trained]
