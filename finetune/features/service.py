"""Features for the phases of one run: extracts once what is to be stored, and hands out feeds."""

import functools
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from finetune.errors import ConfigError
from finetune.features import extraction, feeding, rules
from finetune.features.arrays import Entry
from finetune.features.cut import Cut, LinearHead
from finetune.features.decisions import Decisions
from finetune.features.entries import FeatureSettings
from finetune.features.feeding import Feed, Source
from finetune.features.graph import Graph, Part
from finetune.features.phase_cuts import PhaseCuts
from finetune.features.store import Store
from finetune.freezing.inventory import Inventory
from finetune.freezing.plan import FreezePlan
from finetune.record.schema import FeatureDecision
from finetune.schedule.phase import Phase


class FeatureService:
    """The features of one run.

    Args:
        inventory: of the task model.
        phases: the schedule.
        plans: one for each phase.
        sources: train, validation and test.
        settings: of the store.
        context: whatever else the numbers depend on: preprocessing, image size, precision,
            library versions; JSON values.
        label: says to people what model on what data this is.
        direct: what a phase is fed with that reads no features.
        graph: the task model taken apart (`finetune.features.cut.task_graph`), or None.
        parts: models above cuts that are made already; filled.
        batch_size: rows of a step.
        seed: of the order of the rows.
        decided: what an earlier process has decided, by index of the phase: it stays.
    """

    def __init__(
        self,
        inventory: Inventory,
        phases: Sequence[Phase],
        plans: Sequence[FreezePlan],
        *,
        sources: Mapping[str, Source],
        settings: FeatureSettings,
        context: Mapping[str, Any],
        label: str = "",
        direct: Feed,
        graph: Graph | None,
        parts: dict[Cut, Part],
        batch_size: int,
        seed: int,
        decided: Mapping[int, FeatureDecision] | None = None,
    ) -> None:
        self._inventory, self._phases, self._plans = inventory, phases, plans
        self._sources, self._settings = sources, settings
        self._direct, self._batch_size, self._seed = direct, batch_size, seed
        self._store = Store(settings.directory, settings.max_bytes)
        self._parts = parts
        self._cuts = PhaseCuts(inventory, plans, sources, settings, context, label, graph)
        self._decisions = Decisions(
            self._cuts, phases, settings, self._store, sources["train"], decided or {}
        )
        self._check()

    def decisions(self) -> list[FeatureDecision]:
        """Returns what is known before training: one decision a phase, in order."""
        self._decisions.make(0)
        return self._decisions.listed()

    def decided(self) -> dict[int, FeatureDecision]:
        """Returns the decisions so far, by index of the phase; they do not change any more."""
        return self._decisions.made()

    def open(self, index: int, progress: extraction.Progress) -> Feed:
        """Returns the feed of a phase whose plan has been applied; extracts what is missing.

        Args:
            index: of the phase.
            progress: called with (split, rows done, rows in all) while features are computed.

        Raises:
            ConfigError: if `features.dtype` cannot hold the features.
        """
        self._decisions.make(index)
        cut, decisions = self._cuts.of_phase[index], self._decisions.made()
        decision = decisions[index]
        direct = replace(self._direct, record={"cached": False, "reason": decision.reason})
        if cut is None:
            return direct
        head = self._cuts.head_of(cut)
        if not decision.stored:
            reader = functools.partial(self._computed, cut)
            return replace(direct, head=head, head_features=reader)
        began = time.perf_counter()
        # The first phase of a group extracts for all of it: one pass, every cut.
        group = [i for i, ready in enumerate(self._cuts.ready) if ready == self._cuts.ready[index]]
        wanted = [i for i in group if decisions[i].stored] if index == group[0] else [index]
        num_extracted = self._make(wanted, progress)
        entries = self._open_entries(index, progress)
        seconds = time.perf_counter() - began
        record = {
            "cached": True,
            "cut": cut.name,
            "bytes": sum(each.num_bytes for views in entries.values() for each in views),
            "samples_extracted": num_extracted,
            "seconds": seconds,
        }
        return self._feed(cut, head, entries, record)

    def _check(self) -> None:
        settings = self._settings
        problems = [rules.views_problem(settings)]
        for phase, plan, cut in zip(self._phases, self._plans, self._cuts.of_phase, strict=True):
            head = self._cuts.head_of(cut)
            targets = self._sources["train"].targets
            problems.append(
                rules.exact_head_problem(phase, plan, head, self._inventory, targets, settings)
            )
        found = [each for each in problems if each is not None]
        if found:
            raise ConfigError(found)
        if settings.cache != "never":
            rules.require_writable(settings.directory)

    def _make(self, indices: Sequence[int], progress: extraction.Progress) -> int:
        items = self._cuts.wanted(indices)
        return extraction.make_missing(
            items, self._store, self._cuts.prefix, self._sources, progress
        )

    def _open_entries(
        self, index: int, progress: extraction.Progress
    ) -> dict[str, tuple[Entry, ...]]:
        """Opens what a phase reads; what another run has pushed out meanwhile is made again."""
        found: dict[str, tuple[Entry, ...]] = {}
        for item in self._cuts.wanted([index]):
            entry = self._store.open(item.key)
            if entry is None:
                self._make([index], progress)
                entry = self._store.open(item.key)
            if entry is None:
                raise ConfigError(
                    f"features.dir must keep what is written to it. Received: {item.key[:12]} in "
                    f"{self._settings.directory}, gone at once. Is another program deleting there?"
                )
            found[item.split] = (*found.get(item.split, ()), entry)
        return found

    def _feed(
        self,
        cut: Cut,
        head: LinearHead | None,
        entries: Mapping[str, tuple[Entry, ...]],
        record: Mapping[str, Any],
    ) -> Feed:
        graph = self._cuts.graph_of(cut)
        dtypes = [str(graph.specs[edge].dtype) for edge in cut.edges]

        def training(first: int, last: int, skip: int = 0) -> Any:
            return feeding.training_batches(
                entries["train"],
                self._sources["train"].targets,
                self._sources["train"].weights,
                dtypes,
                batch_size=self._batch_size,
                seed=self._seed,
                first_epoch=first,
                last_epoch=last,
                skip=skip,
            )

        def evaluation(split: str) -> Any:
            return feeding.evaluation_batches(
                entries[split][0], self._sources[split].targets, dtypes, batch_size=self._batch_size
            )

        if cut not in self._parts:
            above = set(range(len(graph.calls))) - set(cut.calls)
            self._parts[cut] = Part(graph, above, cut.edges)
        num_steps = self._direct.num_steps
        return Feed(
            model=self._parts[cut],
            training=training,
            validation=functools.partial(evaluation, "validation"),
            test=functools.partial(evaluation, "test") if "test" in entries else None,
            num_steps=num_steps,
            steps_per_execution=self._direct.steps_per_execution if head is None else num_steps,
            record=record,
            targets={name: source.targets for name, source in self._sources.items()},
            weights=self._sources["train"].weights,
            head=head,
            head_features=lambda: _chunks(entries["train"][0]),
            stored=entries,
        )

    def _computed(self, cut: Cut) -> Iterator[np.ndarray]:
        """Yields the features of the first training view without storing them."""
        view = None if self._settings.augmentation is None else 0
        for outputs in self._cuts.prefix((cut,)).batches(self._sources["train"], view):
            yield outputs[0]


def _chunks(entry: Entry, rows: int = 4096) -> Iterator[np.ndarray]:
    (array,) = entry.arrays
    for first in range(0, len(array), rows):
        yield np.asarray(array[first : first + rows])
