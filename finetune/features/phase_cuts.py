"""Where the phases of a run can be cut, and which entries of the store they then read."""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras

from finetune.datasets.pipeline import Examples, single_pass
from finetune.features.arrays import ArraySpec
from finetune.features.cut import (
    Cut,
    LinearHead,
    awake_above,
    find_cut,
    find_linear_head,
    ready_at,
)
from finetune.features.extraction import Prefix, WantedEntry
from finetune.features.graph import Graph, Part
from finetune.features.own_code import own_steps
from finetune.features.store import key_of
from finetune.features.structure import structure_sha256
from finetune.freezing import proof
from finetune.freezing.inventory import Inventory
from finetune.freezing.plan import FreezePlan


@dataclass(frozen=True)
class FeatureSettings:
    """How features are stored.

    Args:
        cache: ``auto`` (where it saves time), ``always`` or ``never``.
        directory: Directory of the store, which all runs of a machine share.
        max_bytes: Budget of the store.
        dtype: Dtype of floating-point features on disk: ``float32``, ``float16`` or ``bfloat16``.
        views: Number of augmented views of the training split to store; 0 stores none.
        standardise: Whether a linear head trains on standardised features where it can.
    """

    cache: str
    directory: Path
    max_bytes: int
    dtype: str = "float32"
    views: int = 0
    standardise: bool = True


class PhaseCuts:
    """The cuts of one run.

    Args:
        inventory: Inventory of the task model's weights.
        graph: The task model taken apart (`finetune.features.cut.task_graph`); None if it cannot be,
            and then no phase has a cut.
        plans: The freeze plan of each phase.
        examples: The splits: train, validation and, if there is one, test.
        settings: How features are stored.
        context: Whatever else the features depend on, as JSON values: preprocessing, precision,
            versions of the libraries.
        label: Names the model and the data for people; it is not part of any key.
    """

    def __init__(
        self,
        inventory: Inventory,
        graph: Graph | None,
        plans: Sequence[FreezePlan],
        examples: Mapping[str, Examples],
        settings: FeatureSettings,
        context: Mapping[str, Any],
        label: str = "",
    ) -> None:
        self.inventory, self.plans, self.examples = inventory, plans, examples
        self.settings, self._context, self._label = settings, context, label
        self._graph = graph
        self.own_steps = own_steps(inventory.model)
        """Training steps of the model's own; if there are any, no phase has a cut."""
        self.of_phase: list[Cut | None] = [None] * len(plans)
        """The cut of each phase; None if nothing is frozen from the input on."""
        if graph is not None:
            self.of_phase = [find_cut(graph, inventory, plan) for plan in plans]
        self.ready = [ready_at(cut, index, plans) for index, cut in enumerate(self.of_phase)]
        """For each phase, the phase from whose start on its features can be extracted."""
        self._prefixes: dict[tuple[Cut, ...], Prefix] = {}
        self._structures: dict[Cut, str] = {}
        self._weights: dict[tuple[int, Cut], str] = {}

    @property
    def graph(self) -> Graph:
        """The task model taken apart; a model without a graph has no cut.

        Raises:
            ValueError: If the model has no graph.
        """
        if self._graph is None:
            raise ValueError("The model is no functional graph.")
        return self._graph

    @property
    def has_graph(self) -> bool:
        """Whether the task model could be taken apart."""
        return self._graph is not None

    @property
    def training_views(self) -> tuple[int | None, ...]:
        """The views of the training split to store, None without augmentation; may be empty."""
        reader = self.examples["train"].reader
        if reader.mix is not None:
            return ()
        return (None,) if reader.augmentation is None else tuple(range(self.settings.views))

    def views_problem(self) -> str | None:
        """Returns why a training split that must be stored cannot be; None if it can."""
        if self.settings.cache != "always" or self.training_views:
            return None
        return (
            "features.views must be at least 1 to store an augmented training split. Received: "
            f"{self.settings.views} with features.cache=always. Set features.views to the number of "
            "epochs for exact training, or to fewer views that epochs share."
        )

    def head(self, index: int) -> LinearHead | None:
        """Returns what is above the cut of a phase if that is one dense layer."""
        cut = self.of_phase[index]
        return None if cut is None else find_linear_head(self.graph, cut)

    def awake_above(self, index: int) -> tuple[tuple[str, ...], int]:
        """Returns what ends the prefix of a phase; see `finetune.features.cut.awake_above`."""
        if not self.has_graph:
            return (), 0
        return awake_above(self.graph, self.inventory, self.plans[index], self.of_phase[index])

    def below(self, index: int) -> dict[str, float]:
        """Returns the share of the weights of each stage that is below the cut of a phase."""
        cut = self.of_phase[index]
        weights = set(() if cut is None else cut.weights)
        stages = Counter(info.stage for info in self.inventory.infos)
        found = Counter(info.stage for info in self.inventory.infos if info.path in weights)
        return {name: found[name] / stages[name] for name in stages if found[name]}

    def prefix(self, cuts: tuple[Cut, ...]) -> Prefix:
        """Returns the part below some cuts, traced once for the measurement and all splits."""
        if cuts not in self._prefixes:
            self._prefixes[cuts] = Prefix(self.graph, cuts)
        return self._prefixes[cuts]

    def splits(self, index: int) -> list[tuple[str, int | None]]:
        """Returns the (split, view) pairs that a phase reads."""
        last = index == len(self.of_phase) - 1
        held_out = ["validation", "test"] if last and "test" in self.examples else ["validation"]
        return [("train", view) for view in self.training_views] + [
            (name, None) for name in held_out
        ]

    def entry(self, index: int, split: str, view: int | None) -> WantedEntry:
        """Returns one entry that a phase reads; the phase must have a cut."""
        cut, ready = self.of_phase[index], self.ready[index]
        if cut is None:
            raise ValueError(f"Phase {index} has no cut.")
        if (ready, cut) not in self._weights:  # they do not change from then on
            self._weights[ready, cut] = self._weights_sha256(cut)
        specs, examples = self.specs(cut, split), self.examples[split]
        ingredients = {
            **self._context,
            "weights": self._weights[ready, cut],
            "graph": self.structure_sha256(cut),
            "arrays": [[list(spec.shape), spec.dtype] for spec in specs],
            "split": split,
            "data": examples.split.fingerprint,
            "rows": examples.num_examples,
            "view": None if view is None else [view, self.examples["train"].reader.augmentation],
        }
        described = {**ingredients, "cut": cut.name, "label": self._label}
        return WantedEntry(
            key_of(ingredients), cut, split, view, specs, examples.num_examples, described
        )

    def entries(self, indices: Sequence[int]) -> list[WantedEntry]:
        """Returns all entries that some phases read, without repetitions."""
        wanted = [self.entry(i, split, view) for i in indices for split, view in self.splits(i)]
        return list({entry.key: entry for entry in wanted}.values())

    def structure_sha256(self, cut: Cut) -> str:
        """Returns the digest of the prefix as a program; see `finetune.features.structure`."""
        if cut not in self._structures:
            self._structures[cut] = structure_sha256(self.graph, cut)
        return self._structures[cut]

    def specs(self, cut: Cut, split: str = "train") -> tuple[ArraySpec, ...]:
        """Returns the arrays of a cut in a split; empty if a sample has no fixed shape."""
        specs = [self.graph.specs[edge] for edge in cut.edges]
        shapes = [tuple(spec.shape[1:]) for spec in specs]
        if any(None in shape for shape in shapes):
            shapes = self._shapes_of_the_data(cut, split)
        return tuple(
            ArraySpec(shape, self.settings.dtype if spec.dtype == "float32" else str(spec.dtype))
            for shape, spec in zip(shapes, specs, strict=bool(shapes))
        )

    def _shapes_of_the_data(self, cut: Cut, split: str) -> list[tuple[int, ...]]:
        """Returns the shapes that follow from the shapes of the data; empty if these are not fixed."""
        data = single_pass(self.examples[split], batch_size=1, view=None)
        flat = keras.tree.flatten(data.element_spec)
        if any(None in spec.shape[1:] for spec in flat):
            return []
        given = tuple(keras.KerasTensor((1, *spec.shape[1:]), spec.dtype.name) for spec in flat)
        part = Part(self.graph, cut.calls, self.graph.inputs, cut.edges)
        outputs: Any = part.compute_output_spec(given, training=False)
        return [tuple(output.shape[1:]) for output in outputs]

    def _weights_sha256(self, cut: Cut) -> str:
        """Returns one digest of all weights below the cut as they are now, without their names."""
        digests = proof.digests(self.inventory.variables, cut.weights)
        return hashlib.sha256("".join(digests[path] for path in cut.weights).encode()).hexdigest()
