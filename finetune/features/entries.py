"""What the entries of a run's store are: their names, shapes and sizes."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras

from finetune.features.arrays import ArraySpec
from finetune.features.cut import Cut
from finetune.features.feeding import Source
from finetune.features.graph import Graph, Part
from finetune.features.store import key_of
from finetune.features.structure import structure_sha256
from finetune.freezing import proof


@dataclass(frozen=True)
class FeatureSettings:
    """How features are stored.

    Args:
        cache: ``auto`` (where it pays), ``always`` or ``never``.
        directory: of the store, shared by all runs of a machine.
        max_bytes: budget of the store.
        dtype: of floating-point features on disk: ``float32``, ``float16`` or ``bfloat16``.
        views: augmented views of the training split to store; 0 stores none.
        augmentation: how the training split is randomly augmented, seed included; None: not.
        mixed: whether the examples of a training batch are mixed with each other.
        standardise: whether a linear head trains on standardised features where it can.
    """

    cache: str
    directory: Path
    max_bytes: int
    dtype: str = "float32"
    views: int = 0
    augmentation: str | None = None
    mixed: bool = False
    standardise: bool = True

    @property
    def training_views(self) -> tuple[int | None, ...]:
        """What the training split is stored as; empty where it cannot be stored."""
        if self.mixed:
            return ()
        return (None,) if self.augmentation is None else tuple(range(self.views))


@dataclass(frozen=True, eq=False)
class Item:
    """One entry to be: the features of a split in a view at a cut.

    Args:
        key: its name in the store.
        cut: where the features are taken.
        split: train, validation or test.
        view: number of the augmented view, or None.
        specs: of its arrays, one an edge of the cut.
        num_rows: samples in it.
        ingredients: all that its numbers depend on, and what is said to people: cut, label.
    """

    key: str
    cut: Cut
    split: str
    view: int | None
    specs: tuple[ArraySpec, ...]
    num_rows: int
    ingredients: dict[str, Any]

    @property
    def num_bytes(self) -> int:
        """Bytes of its arrays on disk."""
        return self.num_rows * sum(spec.bytes_per_sample for spec in self.specs)


class Items:
    """Makes the items of one run.

    Args:
        graph: of the task model.
        variables: its weights by path.
        sources: the splits.
        settings: of the store.
        context: what the numbers depend on besides weights, graph and split.
        label: says to people what model on what data this is; not in the key.
    """

    def __init__(
        self,
        graph: Graph,
        variables: Mapping[str, Any],
        sources: Mapping[str, Source],
        settings: FeatureSettings,
        context: Mapping[str, Any],
        label: str = "",
    ) -> None:
        self._graph, self._variables, self._sources = graph, variables, sources
        self._settings, self._context, self._label = settings, context, label
        self._structures: dict[Cut, str] = {}

    def of(self, cut: Cut, split: str, view: int | None, weights_sha256: str) -> Item:
        """Returns one item; `weights_sha256` is that of the cut when its features are taken."""
        specs = self.specs(cut, split)
        num_rows = self._sources[split].num_examples
        ingredients = {
            **self._context,
            "weights": weights_sha256,
            "graph": self.structure_sha256(cut),
            "arrays": [[list(spec.shape), spec.dtype] for spec in specs],
            "split": split,
            "data": self._sources[split].fingerprint,
            "rows": num_rows,
            "view": None if view is None else [view, self._settings.augmentation],
        }
        described = {**ingredients, "cut": cut.name, "label": self._label}
        return Item(key_of(ingredients), cut, split, view, specs, num_rows, described)

    def structure_sha256(self, cut: Cut) -> str:
        """Returns the digest of the prefix as a program; see `finetune.features.structure`."""
        if cut not in self._structures:
            self._structures[cut] = structure_sha256(self._graph, cut)
        return self._structures[cut]

    def specs(self, cut: Cut, split: str = "train") -> tuple[ArraySpec, ...]:
        """Returns the arrays of a cut in a split; empty where a sample's shape is not fixed."""
        shapes = [tuple(self._graph.specs[edge].shape[1:]) for edge in cut.edges]
        if any(None in shape for shape in shapes):
            shapes = self._shapes_of_the_data(cut, split)
        dtypes = [str(self._graph.specs[edge].dtype) for edge in cut.edges]
        return tuple(
            ArraySpec(shape, self._settings.dtype if dtype == "float32" else dtype)
            for shape, dtype in zip(shapes, dtypes, strict=bool(shapes))
        )

    def _shapes_of_the_data(self, cut: Cut, split: str) -> list[tuple[int, ...]]:
        """Returns the shapes that the data's own fixed shapes lead to; none where they have none."""
        flat = keras.tree.flatten(self._sources[split].inputs(1, None).element_spec)
        if any(None in each.shape[1:] for each in flat):
            return []
        given = tuple(keras.KerasTensor((1, *each.shape[1:]), each.dtype.name) for each in flat)
        part = Part(self._graph, cut.calls, self._graph.inputs, cut.edges)
        outputs: Any = part.compute_output_spec(given, training=False)
        return [tuple(each.shape[1:]) for each in outputs]

    def weights_sha256(self, cut: Cut) -> str:
        """Returns one digest of all weights below the cut as they are now, names left out."""
        each = proof.digests(self._variables, cut.weights)
        return hashlib.sha256("".join(each[path] for path in cut.weights).encode()).hexdigest()
