"""Extraction: one pass over a split writes the features of every cut that needs them."""

import logging
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from finetune.datasets.pipeline import Examples, single_pass
from finetune.errors import ConfigError
from finetune.features.arrays import ArraySpec
from finetune.features.cut import Cut
from finetune.features.graph import Edge, Graph, Part
from finetune.features.store import Store

log = logging.getLogger(__name__)

ROWS_AT_ONCE = 16  # of a CPU: larger batches are no faster and hold more memory
IN_FLIGHT = 2  # batches: one computes while another is read, or written and hashed
_COMPARED_ROWS = 4
_MEASURED_ROWS, _MEASURED_SECONDS = 32, 0.02
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, eq=False)
class WantedEntry:
    """An entry that a run reads, whether the store has it or not.

    Args:
        key: Name of the entry in the store.
        cut: The cut at which the features are taken.
        split: ``train``, ``validation`` or ``test``.
        view: Number of the augmented view; None without augmentation.
        specs: One array for each edge of the cut.
        num_rows: Number of samples.
        ingredients: All that the numbers depend on, and the cut and a label for people.
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
        """Bytes of the arrays on disk."""
        return self.num_rows * sum(spec.bytes_per_sample for spec in self.specs)

    @property
    def label(self) -> str:
        """The split and the view, for people."""
        return self.split if self.view is None else f"{self.split}, view {self.view}"


class Prefix:
    """The part of a model below some cuts, compiled for inference.

    Args:
        graph: The task model taken apart.
        cuts: The cuts at which features are taken.
    """

    def __init__(self, graph: Graph, cuts: Sequence[Cut]) -> None:
        calls = {index for cut in cuts for index in cut.calls}
        self.edges: list[Edge] = list(dict.fromkeys(edge for cut in cuts for edge in cut.edges))
        self._part = Part(graph, calls, graph.inputs, self.edges)
        self._programs: dict[str, Any] = {}

    def batches(self, examples: Examples, view: int | None) -> Iterator[list[np.ndarray]]:
        """Yields the features of each batch in stored order, as one array for each edge."""
        data = single_pass(examples, batch_size=ROWS_AT_ONCE, view=view)
        computed = self._compiled(data.element_spec)
        with ThreadPoolExecutor(IN_FLIGHT) as pool:
            running: deque[Any] = deque()
            try:
                for batch in data:
                    running.append(pool.submit(computed, batch))
                    if len(running) > IN_FLIGHT:
                        yield running.popleft().result()
                while running:
                    yield running.popleft().result()
            finally:  # if one fails, those that have not begun are not computed
                pool.shutdown(cancel_futures=True)

    def seconds_per_row(self, examples: Examples, view: int | None) -> float:
        """Measures the forward pass of 4 rows, or of up to 32 if these are fast."""
        most = min(_MEASURED_ROWS, examples.num_examples)
        data = single_pass(examples, batch_size=most, view=view)
        computed = self._compiled(data.element_spec)
        (batch,) = data.take(1)
        rows = min(4, most)
        while True:
            part = _first(batch, rows)
            computed(part)  # the first round allocates and chooses kernels
            began = time.perf_counter()
            computed(part)
            seconds = time.perf_counter() - began
            if seconds >= _MEASURED_SECONDS or rows == most:
                return seconds / rows
            rows = min(2 * rows, most)

    def mixes_rows(self, examples: Examples, view: int | None) -> bool:
        """Tells whether the features of a row depend on the other rows of its batch."""
        rows = min(_COMPARED_ROWS, examples.num_examples)
        data = single_pass(examples, batch_size=rows, view=view)
        computed = self._compiled(data.element_spec)
        (batch,) = data.take(1)
        alone = max(1, rows // 2)
        together, apart = computed(batch), computed(_first(batch, alone))
        return not all(_close(a[:alone], b) for a, b in zip(together, apart, strict=True))

    def _compiled(self, spec: Any) -> Callable[[Any], list[np.ndarray]]:
        """Returns the function from a batch of `spec` to its features.

        It is traced here, once for each spec with an open batch dimension. Several threads then call
        the traced function, which takes no lock: a `tf.function` that fails in one thread while
        another one calls it can keep TensorFlow's lock forever.
        """
        flat = keras.tree.flatten(spec)
        key = str((keras.tree.map_structure(str, spec), flat))
        if key not in self._programs:
            traced: Any = tf.function(self._run, input_signature=[spec])
            self._programs[key] = traced.get_concrete_function()
        program = self._programs[key]
        return lambda batch: [np.asarray(output) for output in program(batch)]

    def _run(self, inputs: Any) -> Any:
        return self._part(tuple(keras.tree.flatten(inputs)), training=False)


def _close(first: np.ndarray, second: np.ndarray) -> bool:
    """Tells whether two arrays are the same up to the rounding of their dtype."""
    if first.dtype.kind in "biuSUO":
        return np.array_equal(first, second)
    tolerance = 1e-3 if first.dtype.itemsize > 2 else 3e-2
    values = first.astype(np.float64), second.astype(np.float64)
    largest = float(np.nanmax(np.abs(values[0]), initial=0.0))
    return np.allclose(*values, rtol=0, atol=tolerance * largest, equal_nan=True)


def _first(batch: Any, rows: int) -> Any:
    return keras.tree.map_structure(lambda tensor: tensor[:rows], batch)


def make_missing(
    wanted: Sequence[WantedEntry],
    store: Store,
    prefix: Callable[[tuple[Cut, ...]], Prefix],
    examples: Mapping[str, Examples],
    progress: Progress,
) -> int:
    """Makes the entries that the store lacks, in one pass over each split and view.

    If another process is making one of them, this one waits for it.

    Args:
        wanted: The entries that will be read.
        store: The store to write them to.
        prefix: Returns the part of the model below some cuts.
        examples: The splits by name.
        progress: Called with (split, rows done, rows in all), counted over all passes. A total of 0
            is a wait, and the text then says for what.

    Returns:
        The number of samples that went through the prefix.

    Raises:
        ConfigError: If `features.dtype` cannot hold the features.
        StorageError: If the disk is full or the store cannot be written.
    """
    missing = [entry for entry in wanted if store.open(entry.key) is None]
    if not missing:
        return 0

    said: set[str] = set()

    def waiting(key: str, holder: str) -> None:
        entry = next(entry for entry in missing if entry.key == key)
        what = f"features of {entry.label} at {entry.cut.name} (entry {key[:12]})"
        line = f"waiting for {holder}, which computes the {what}"
        if line not in said:
            said.add(line)
            log.warning("%s", line)
        progress(line, 0, 0)

    num_extracted = 0
    with store.guarded(), store.locked([entry.key for entry in missing], waiting):
        missing = [entry for entry in missing if store.open(entry.key) is None]
        store.make_room(sum(entry.num_bytes for entry in missing), [entry.key for entry in wanted])
        passes = dict.fromkeys((entry.split, entry.view) for entry in missing)
        total = sum(examples[split].num_examples for split, _ in passes)
        for split, view in passes:
            group = [entry for entry in missing if (entry.split, entry.view) == (split, view)]
            below = prefix(tuple(entry.cut for entry in group))
            before = num_extracted

            def passed_on(label: str, done: int, of: int, before: int = before) -> None:
                progress(label, before + done, total)

            _extract(group, store, below, examples[split], passed_on)
            num_extracted += examples[split].num_examples
    return num_extracted


def _extract(
    group: Sequence[WantedEntry],
    store: Store,
    below: Prefix,
    examples: Examples,
    progress: Progress,
) -> None:
    """Runs the frozen prefix over one split in inference mode, once for all entries of it."""
    label, cuts = group[0].label, ", ".join(entry.cut.name for entry in group)
    began, done = time.perf_counter(), 0
    try:
        with ExitStack() as stack:
            writers = [
                stack.enter_context(
                    store.writer(entry.key, entry.num_rows, entry.specs, entry.ingredients)
                )
                for entry in group
            ]
            for outputs in below.batches(examples, group[0].view):
                of_edge = dict(zip(below.edges, outputs, strict=True))
                for entry, writer in zip(group, writers, strict=True):
                    writer.write([of_edge[edge] for edge in entry.cut.edges])
                done += len(outputs[0])
                progress(label, done, examples.num_examples)
    except OverflowError as error:
        raise ConfigError(
            f"features.dtype must be able to hold the features. Received: {error} at {cuts}. "
            "Use float32, or bfloat16."
        ) from error
    seconds = time.perf_counter() - began
    log.info("features of %s at %s: %d samples, %.1f s", label, cuts, done, seconds)
