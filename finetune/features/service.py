"""The features of one run: extracts once what is to be stored, and opens what a phase reads."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from finetune.errors import ConfigError
from finetune.features.arrays import Entry
from finetune.features.batches import StoredExamples
from finetune.features.cut import Cut, LinearHead
from finetune.features.decisions import Decisions
from finetune.features.extraction import Progress, make_missing
from finetune.features.graph import Part
from finetune.features.phase_cuts import PhaseCuts
from finetune.features.store import Store
from finetune.record.schema import FeatureDecision
from finetune.schedule.phase import Phase


@dataclass(frozen=True, eq=False)
class PhaseFeatures:
    """What a phase reads of the store, and what is known of its frozen features in any case.

    Args:
        record: The entry ``features`` of the phase's record.
        head: The head, if it is linear in frozen features, stored or not.
        head_features: Yields those features of the training split as (rows, features) arrays.
        model: The part of the task model above the cut; None if the phase reads no stored features.
        stored: The stored features by split.
    """

    record: Mapping[str, Any]
    head: LinearHead | None = None
    head_features: Callable[[], Iterator[np.ndarray]] | None = None
    model: Part | None = None
    stored: Mapping[str, StoredExamples] = field(default_factory=dict)


class FeatureService:
    """The features of one run.

    Args:
        cuts: The cuts of its phases.
        phases: The schedule.
        parts: Models above cuts that exist already; new ones are added.
        decided: The final decisions of an earlier process by index of the phase.
    """

    def __init__(
        self,
        cuts: PhaseCuts,
        phases: Sequence[Phase],
        parts: dict[Cut, Part],
        decided: Mapping[int, FeatureDecision] | None = None,
    ) -> None:
        self._cuts, self._parts = cuts, parts
        self._store = Store(cuts.settings.directory, cuts.settings.max_bytes)
        self._decisions = Decisions(cuts, phases, self._store, decided or {})

    def decisions(self) -> list[FeatureDecision]:
        """Makes the decisions that can be made before training; one for each phase, in order."""
        self._decisions.make(0)
        return self._decisions.listed()

    def decided(self) -> dict[int, FeatureDecision]:
        """Returns the final decisions by index of the phase."""
        return self._decisions.made()

    def open(self, index: int, progress: Progress) -> PhaseFeatures:
        """Returns the features of a phase whose plan has been applied; extracts what is missing.

        Args:
            index: Index of the phase.
            progress: Called with (split, rows done, rows in all) while features are computed.

        Raises:
            ConfigError: If `features.dtype` cannot hold the features.
        """
        self._decisions.make(index)
        cut, decisions = self._cuts.of_phase[index], self._decisions.made()
        head = self._cuts.head(index)
        if cut is None or not decisions[index].stored:
            record = {"cached": False, "reason": decisions[index].reason}
            return PhaseFeatures(
                record, head, None if cut is None else partial(self._computed, cut)
            )
        began = time.perf_counter()
        # The first phase of a group extracts for all of it: one pass, every cut.
        group = [i for i, ready in enumerate(self._cuts.ready) if ready == self._cuts.ready[index]]
        wanted = [i for i in group if decisions[i].stored] if index == group[0] else [index]
        num_extracted = self._make(wanted, progress)
        entries = self._open_entries(index, progress)
        record = {
            "cached": True,
            "cut": cut.name,
            "bytes": sum(entry.num_bytes for views in entries.values() for entry in views),
            "samples_extracted": num_extracted,
            "seconds": time.perf_counter() - began,
        }
        dtypes = tuple(str(self._cuts.graph.specs[edge].dtype) for edge in cut.edges)
        stored = {
            split: StoredExamples(views, dtypes, examples.targets, examples.weights)
            for split, views in entries.items()
            for examples in [self._cuts.examples[split]]
        }
        features = partial(_chunks, entries["train"][0])
        return PhaseFeatures(record, head, features, self._part_above(cut), stored)

    def _make(self, indices: Sequence[int], progress: Progress) -> int:
        wanted, cuts = self._cuts.entries(indices), self._cuts
        return make_missing(wanted, self._store, cuts.prefix, cuts.examples, progress)

    def _open_entries(self, index: int, progress: Progress) -> dict[str, tuple[Entry, ...]]:
        """Opens what a phase reads; what another run has pushed out meanwhile is made again."""
        found: dict[str, tuple[Entry, ...]] = {}
        for wanted in self._cuts.entries([index]):
            entry = self._store.open(wanted.key)
            if entry is None:
                self._make([index], progress)
                entry = self._store.open(wanted.key)
            if entry is None:
                raise ConfigError(
                    "features.dir must keep what is written to it. Received: "
                    f"{self._store.directory}, where entry {wanted.key[:12]} has disappeared. Check "
                    "whether another program deletes files there."
                )
            found[wanted.split] = (*found.get(wanted.split, ()), entry)
        return found

    def _part_above(self, cut: Cut) -> Part:
        if cut not in self._parts:
            graph = self._cuts.graph
            above = set(range(len(graph.calls))) - set(cut.calls)
            self._parts[cut] = Part(graph, above, cut.edges)
        return self._parts[cut]

    def _computed(self, cut: Cut) -> Iterator[np.ndarray]:
        """Yields the features of the first training view without storing them."""
        train = self._cuts.examples["train"]
        view = None if train.reader.augmentation is None else 0
        for outputs in self._cuts.prefix((cut,)).batches(train, view):
            yield outputs[0]


def _chunks(entry: Entry, rows: int = 4096) -> Iterator[np.ndarray]:
    (array,) = entry.arrays
    for first in range(0, len(array), rows):
        yield np.asarray(array[first : first + rows])
