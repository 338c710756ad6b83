"""Features for the phases of one run: finds cuts, decides, extracts once, and hands out feeds."""

import functools
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from finetune.errors import ConfigError
from finetune.features import extraction, feeding, rules
from finetune.features.arrays import Entry
from finetune.features.cut import (
    Cut,
    LinearHead,
    find_cut,
    find_linear_head,
    ready_at,
)
from finetune.features.entries import FeatureSettings, Item, Items
from finetune.features.feeding import Feed, Source
from finetune.features.graph import Graph, Part
from finetune.features.machine import this_machine
from finetune.features.planner import Need, Verdict, decide, on_disk
from finetune.features.store import Store
from finetune.freezing.inventory import Inventory
from finetune.freezing.plan import FreezePlan
from finetune.freezing.schedule import Phase
from finetune.record import FeatureDecision


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
        self._graph, self._parts = graph, parts
        self._cuts: list[Cut | None] = [None] * len(plans)
        if graph is not None:
            self._cuts = [find_cut(graph, inventory, plan) for plan in plans]
            self._items = Items(graph, inventory.variables, sources, settings, context, label)
        self._ready = [ready_at(cut, index, plans) for index, cut in enumerate(self._cuts)]
        self._decisions = dict(decided or {})
        self._prefixes: dict[tuple[Cut, ...], extraction.Prefix] = {}
        self._weights: dict[tuple[int, Cut], str] = {}
        self._check()

    def decisions(self) -> list[FeatureDecision]:
        """Returns what is known before training: one decision a phase, in order."""
        self._decide(0)
        return [self._decisions.get(i) or self._later(i) for i in range(len(self._phases))]

    def decided(self) -> dict[int, FeatureDecision]:
        """Returns the decisions so far, by index of the phase; they do not change any more."""
        return dict(self._decisions)

    def open(self, index: int, progress: extraction.Progress) -> Feed:
        """Returns the feed of a phase whose plan has been applied; extracts what is missing.

        Args:
            index: of the phase.
            progress: called with (split, rows done, rows in all) while features are computed.

        Raises:
            ConfigError: if `features.dtype` cannot hold the features.
        """
        self._decide(index)
        cut, decision = self._cuts[index], self._decisions[index]
        direct = replace(self._direct, record={"cached": False, "reason": decision.reason})
        if cut is None:
            return direct
        head = find_linear_head(self._graph_of(cut), cut)
        if not decision.stored:
            reader = functools.partial(self._computed, cut)
            return replace(direct, head=head, head_features=reader)
        began = time.perf_counter()
        # The first phase of a group extracts for all of it: one pass, every cut.
        group = [i for i, ready in enumerate(self._ready) if ready == self._ready[index]]
        wanted = [i for i in group if self._decisions[i].stored] if index == group[0] else [index]
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

    def _graph_of(self, cut: Cut) -> Graph:
        assert self._graph is not None, cut  # noqa: S101 - a cut comes from a graph
        return self._graph

    def _check(self) -> None:
        settings = self._settings
        problems = [rules.views_problem(settings)]
        for phase, plan, cut in zip(self._phases, self._plans, self._cuts, strict=True):
            head = None if cut is None else find_linear_head(self._graph_of(cut), cut)
            targets = self._sources["train"].targets
            problems.append(
                rules.exact_head_problem(phase, plan, head, self._inventory, targets, settings)
            )
        found = [each for each in problems if each is not None]
        if found:
            raise ConfigError(found)
        if settings.cache != "never":
            rules.require_writable(settings.directory)

    # What is stored.

    def _decide(self, start: int) -> None:
        """Decides for the phases whose features can be extracted by the time phase `start` begins."""
        group = [i for i, r in enumerate(self._ready) if r <= start and i not in self._decisions]
        candidates: dict[Cut, list[int]] = {}
        for index in group:
            cut, reason = self._cuts[index], self._why_not(index)
            if cut is None or reason is not None:
                self._decisions[index] = self._refused(index, self._explained(index, reason or ""))
            else:
                candidates.setdefault(cut, []).append(index)
        if not candidates:
            return
        verdicts = self._verdicts(candidates)
        for (cut, indices), verdict in zip(candidates.items(), verdicts, strict=True):
            row = sum(spec.bytes_per_sample for spec in self._items.specs(cut))
            for index in indices:
                self._decisions[index] = FeatureDecision(
                    phase=self._phases[index].name,
                    cut=cut.name,
                    bytes_per_sample=row,
                    bytes=row * sum(self._rows(split) for split, _ in self._splits(index)),
                    stored=verdict.stored,
                    reason=self._explained(index, verdict.reason),
                    saves_seconds=verdict.saves_seconds,
                    costs_seconds=verdict.costs_seconds,
                )
                needed = "always" if self._settings.cache == "always" else None
                if self._phases[index].solver == "lbfgs":
                    needed = "solver lbfgs"
                if needed is not None and not verdict.stored:
                    raise ConfigError(
                        f"features.max_gib must let the features of phase "
                        f"{self._phases[index].name} be stored. Received: {needed}, but "
                        f"{verdict.reason}. Raise features.max_gib or free some disk."
                    )

    def _why_not(self, index: int) -> str | None:
        """Returns why a phase's features cannot be stored, whatever they would save."""
        cut = self._cuts[index]
        if self._graph is None:
            return "the model is no functional graph"
        if cut is None:
            return "no frozen prefix"
        if self._settings.cache == "never":
            return "features.cache=never"
        if self._settings.mixed:
            return "the images of a batch are mixed (dataset.mix)"
        if not self._settings.training_views:
            return "random augmentation; features.views=K stores K views"
        if not self._items.specs(cut):
            return "the shape of its features differs from batch to batch"
        try:
            self._items.structure_sha256(cut)
        except NotImplementedError:
            return "a layer below the cut has no full get_config"
        return None

    def _explained(self, index: int, reason: str) -> str:
        """Adds the layers that the cut would go through if they could be taken apart."""
        graph, cut = self._graph, self._cuts[index]
        if graph is None:
            return reason
        below = {graph.calls[i].operation.name for i in (() if cut is None else cut.calls)}
        outside = [f"{name} ({why})" for name, why in graph.whole.items() if name not in below]
        return f"{reason}; not cut inside {', '.join(outside)}" if outside else reason

    def _refused(self, index: int, reason: str) -> FeatureDecision:
        cut = self._cuts[index]
        return FeatureDecision(self._phases[index].name, None if cut is None else cut.name, reason)

    def _later(self, index: int) -> FeatureDecision:
        when = self._phases[self._ready[index]].name
        reason = f"decided at phase {when}, when what it freezes has trained"
        return self._refused(index, reason)

    def _verdicts(self, candidates: Mapping[Cut, Sequence[int]]) -> list[Verdict]:
        needs = [self._need(cut, indices) for cut, indices in candidates.items()]
        if all(need.on_disk for need in needs):
            return [on_disk(need) for need in needs]
        if self._settings.cache == "auto":
            source, view = self._sources["train"], self._settings.training_views[0]
            seconds = [self._prefix((cut,)).seconds_per_row(source, view) for cut in candidates]
            needs = [
                replace(need, seconds_per_row=each)
                for need, each in zip(needs, seconds, strict=True)
            ]
        machine = this_machine(self._settings.directory, self._settings.max_bytes)
        return decide(needs, self._settings.cache, machine)

    def _need(self, cut: Cut, indices: Sequence[int]) -> Need:
        splits = dict.fromkeys(each for index in indices for each in self._splits(index))
        items = [self._item(indices[0], split, view) for split, view in splits]
        return Need(
            epochs=sum(self._phases[index].epochs for index in indices),
            rows=sum(self._rows(split) for split, _ in splits),
            rows_per_epoch=self._rows("train") + self._rows("validation"),
            bytes_per_row=sum(spec.bytes_per_sample for spec in items[0].specs),
            seconds_per_row=0.0,
            on_disk=all(self._store.has(item.key) for item in items),
            required=any(self._phases[index].solver == "lbfgs" for index in indices),
        )

    def _splits(self, index: int) -> list[tuple[str, int | None]]:
        """Returns the (split, view) pairs that a phase reads."""
        last = index == len(self._phases) - 1
        held_out = ["validation", "test"] if last and "test" in self._sources else ["validation"]
        views = self._settings.training_views
        return [("train", view) for view in views] + [(split, None) for split in held_out]

    def _rows(self, split: str) -> int:
        return self._sources[split].num_examples

    # What is read.

    def _wanted(self, indices: Sequence[int]) -> list[Item]:
        wanted = [self._item(i, split, view) for i in indices for split, view in self._splits(i)]
        return list({item.key: item for item in wanted}.values())

    def _item(self, index: int, split: str, view: int | None) -> Item:
        cut, ready = self._cuts[index], self._ready[index]
        assert cut is not None  # noqa: S101 - what has none is not stored
        if (ready, cut) not in self._weights:  # they stand still from then on
            self._weights[ready, cut] = self._items.weights_sha256(cut)
        return self._items.of(cut, split, view, self._weights[ready, cut])

    def _make(self, indices: Sequence[int], progress: extraction.Progress) -> int:
        items = self._wanted(indices)
        return extraction.make_missing(items, self._store, self._prefix, self._sources, progress)

    def _prefix(self, cuts: tuple[Cut, ...]) -> extraction.Prefix:
        """Returns the part below some cuts; what measures and all splits share what is traced."""
        if cuts not in self._prefixes:
            self._prefixes[cuts] = extraction.Prefix(self._graph_of(cuts[0]), cuts)
        return self._prefixes[cuts]

    def _open_entries(
        self, index: int, progress: extraction.Progress
    ) -> dict[str, tuple[Entry, ...]]:
        """Opens what a phase reads; what another run has pushed out meanwhile is made again."""
        found: dict[str, tuple[Entry, ...]] = {}
        for item in self._wanted([index]):
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
        graph = self._graph_of(cut)
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
        for outputs in self._prefix((cut,)).batches(self._sources["train"], view):
            yield outputs[0]


def _chunks(entry: Entry, rows: int = 4096) -> Iterator[np.ndarray]:
    (array,) = entry.arrays
    for first in range(0, len(array), rows):
        yield np.asarray(array[first : first + rows])
