"""Where each phase of a run can be cut, and what it would then read of the store."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from finetune.features import extraction
from finetune.features.cut import (
    Cut,
    LinearHead,
    awake_above,
    find_cut,
    find_linear_head,
    ready_at,
)
from finetune.features.entries import FeatureSettings, Item, Items
from finetune.features.feeding import Source
from finetune.features.graph import Graph
from finetune.features.own_code import own_steps
from finetune.freezing.inventory import Inventory
from finetune.freezing.plan import FreezePlan


class PhaseCuts:
    """The cuts of one run.

    Args:
        inventory: of the task model.
        plans: one for each phase.
        sources: train, validation and test.
        settings: of the store.
        context: see `FeatureService`.
        label: see `FeatureService`.
        graph: the task model taken apart, or None: then no phase can be cut.
    """

    def __init__(
        self,
        inventory: Inventory,
        plans: Sequence[FreezePlan],
        sources: Mapping[str, Source],
        settings: FeatureSettings,
        context: Mapping[str, Any],
        label: str,
        graph: Graph | None,
    ) -> None:
        self._sources, self._settings = sources, settings
        self._infos = inventory.infos
        self.own_steps = own_steps(inventory.model)
        """What the model brings along of how it is trained: then no phase can be cut."""
        self.graph = graph
        self.of_phase: list[Cut | None] = [None] * len(plans)
        """One a phase; None: nothing in it is frozen from the input on."""
        self.awake: list[tuple[tuple[str, ...], int]] = [((), 0)] * len(plans)
        """One a phase: see `finetune.features.cut.awake_above`."""
        if graph is not None:
            self.of_phase = [find_cut(graph, inventory, plan) for plan in plans]
            self.awake = [
                awake_above(graph, inventory, plan, cut)
                for plan, cut in zip(plans, self.of_phase, strict=True)
            ]
            self.items = Items(graph, inventory.variables, sources, settings, context, label)
        self.ready = [ready_at(cut, index, plans) for index, cut in enumerate(self.of_phase)]
        """For each phase, the phase from whose start its features can be extracted."""
        self._prefixes: dict[tuple[Cut, ...], extraction.Prefix] = {}
        self._weights: dict[tuple[int, Cut], str] = {}

    def graph_of(self, cut: Cut) -> Graph:
        """Returns the graph, which is there where a cut is."""
        assert self.graph is not None, cut  # noqa: S101 - a cut comes from a graph
        return self.graph

    def head_of(self, cut: Cut | None) -> LinearHead | None:
        """Returns what is above a cut, where that is one dense layer."""
        return None if cut is None else find_linear_head(self.graph_of(cut), cut)

    def below(self, index: int) -> dict[str, float]:
        """Returns by stage the share of its weights that is below the cut of a phase, if any is."""
        cut = self.of_phase[index]
        weights = set(() if cut is None else cut.weights)
        stages = Counter(info.stage for info in self._infos)
        found = Counter(info.stage for info in self._infos if info.path in weights)
        return {name: found[name] / stages[name] for name in stages if found[name]}

    def splits(self, index: int) -> list[tuple[str, int | None]]:
        """Returns the (split, view) pairs that a phase reads."""
        last = index == len(self.of_phase) - 1
        held_out = ["validation", "test"] if last and "test" in self._sources else ["validation"]
        views = self._settings.training_views
        return [("train", view) for view in views] + [(split, None) for split in held_out]

    def rows(self, split: str) -> int:
        """Returns the number of samples in a split."""
        return self._sources[split].num_examples

    def item(self, index: int, split: str, view: int | None) -> Item:
        """Returns an entry that a phase reads."""
        cut, ready = self.of_phase[index], self.ready[index]
        assert cut is not None  # noqa: S101 - what has none is not stored
        if (ready, cut) not in self._weights:  # they stand still from then on
            self._weights[ready, cut] = self.items.weights_sha256(cut)
        return self.items.of(cut, split, view, self._weights[ready, cut])

    def wanted(self, indices: Sequence[int]) -> list[Item]:
        """Returns all entries that some phases read, each once."""
        wanted = [self.item(i, split, view) for i in indices for split, view in self.splits(i)]
        return list({item.key: item for item in wanted}.values())

    def prefix(self, cuts: tuple[Cut, ...]) -> extraction.Prefix:
        """Returns the part below some cuts; what measures and all splits share what is traced."""
        if cuts not in self._prefixes:
            self._prefixes[cuts] = extraction.Prefix(self.graph_of(cuts[0]), cuts)
        return self._prefixes[cuts]
