"""One pass over a split writes the features of every cut that is wanted of it."""

import logging
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from finetune.errors import ConfigError
from finetune.features.cut import Cut
from finetune.features.entries import Item
from finetune.features.feeding import Source
from finetune.features.graph import Edge, Graph, Part
from finetune.features.store import Store

log = logging.getLogger(__name__)

ROWS_AT_ONCE = 16  # of a CPU: larger batches are no faster and hold more memory
IN_FLIGHT = 2  # batches: one computes while another is read, or written and hashed
_COMPARED_ROWS = 4
_MEASURED_ROWS, _MEASURED_SECONDS = 32, 0.02
Progress = Callable[[str, int, int], None]


class Prefix:
    """The part of a model below some cuts, compiled for inference.

    Args:
        graph: of the task model.
        cuts: whose features are wanted.
    """

    def __init__(self, graph: Graph, cuts: Sequence[Cut]) -> None:
        calls = {index for cut in cuts for index in cut.calls}
        self.edges: list[Edge] = list(dict.fromkeys(edge for cut in cuts for edge in cut.edges))
        self._part = Part(graph, calls, graph.inputs, self.edges)
        self._programs: dict[str, Any] = {}

    def batches(self, source: Source, view: int | None) -> Iterator[list[np.ndarray]]:
        """Yields the features of each batch of a split, one array an edge, in stored order."""
        data = source.inputs(ROWS_AT_ONCE, view)
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
            finally:  # where one failed, those that have not begun are not computed
                pool.shutdown(cancel_futures=True)

    def seconds_per_row(self, source: Source, view: int | None) -> float:
        """Measures the forward pass: of 4 rows, or of up to 32 where those are fast."""
        most = min(_MEASURED_ROWS, source.num_examples)
        data = source.inputs(most, view)
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

    def mixes_rows(self, source: Source, view: int | None) -> bool:
        """Tells whether the features of a row depend on the other rows of its batch."""
        rows = min(_COMPARED_ROWS, source.num_examples)
        data = source.inputs(rows, view)
        computed = self._compiled(data.element_spec)
        (batch,) = data.take(1)
        alone = max(1, rows // 2)
        together, apart = computed(batch), computed(_first(batch, alone))
        return not all(_close(a[:alone], b) for a, b in zip(together, apart, strict=True))

    def _compiled(self, spec: Any) -> Callable[[Any], list[np.ndarray]]:
        """Returns the function from a batch of `spec` to its features.

        It is traced here, once a spec, whose batch is open. Several threads then call the traced
        function, which takes no lock: a `tf.function` that fails in one thread while another one
        calls it can keep TensorFlow's lock for good.
        """
        flat = keras.tree.flatten(spec)
        key = str((keras.tree.map_structure(str, spec), flat))
        if key not in self._programs:
            traced: Any = tf.function(self._run, input_signature=[spec])
            self._programs[key] = traced.get_concrete_function()
        program = self._programs[key]
        return lambda batch: [np.asarray(each) for each in program(batch)]

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
    return keras.tree.map_structure(lambda each: each[:rows], batch)


def make_missing(
    items: Sequence[Item],
    store: Store,
    prefix: Callable[[tuple[Cut, ...]], Prefix],
    sources: Mapping[str, Source],
    progress: Progress,
) -> int:
    """Makes those of `items` that the store lacks: one pass over each split and view.

    Another process that makes one of them is waited for.

    Args:
        items: what will be read.
        store: where it goes.
        prefix: returns the part below some cuts.
        sources: the splits.
        progress: called with (split, rows done, rows in all), of all splits and views that are to
            be made; a total of 0 is a wait, and says for what.

    Returns:
        Samples that went through the prefix.

    Raises:
        ConfigError: if `features.dtype` cannot hold the features.
        StorageError: for a full disk or a store that cannot be written.
    """
    missing = [item for item in items if store.open(item.key) is None]
    if not missing:
        return 0

    said: set[str] = set()

    def waiting(key: str, holder: str) -> None:
        item = next(each for each in missing if each.key == key)
        what = f"features of {_label(item)} at {item.cut.name} (entry {key[:12]})"
        line = f"waiting for {holder}, which computes the {what}"
        if line not in said:
            said.add(line)
            log.warning("%s", line)
        progress(line, 0, 0)

    num_extracted = 0
    with store.guarded(), store.locked([item.key for item in missing], waiting):
        missing = [item for item in missing if store.open(item.key) is None]
        store.make_room(sum(item.num_bytes for item in missing), [item.key for item in items])
        passes = dict.fromkeys((item.split, item.view) for item in missing)
        total = sum(sources[split].num_examples for split, _ in passes)
        for split, view in passes:
            group = [item for item in missing if (item.split, item.view) == (split, view)]
            below = prefix(tuple(item.cut for item in group))
            before = num_extracted

            def passed_on(label: str, done: int, of: int, before: int = before) -> None:
                progress(label, before + done, total)

            _extract(group, store, below, sources[split], passed_on)
            num_extracted += sources[split].num_examples
    return num_extracted


def _label(item: Item) -> str:
    return item.split if item.view is None else f"{item.split}, view {item.view}"


def _extract(
    items: Sequence[Item], store: Store, below: Prefix, source: Source, progress: Progress
) -> None:
    """Runs the frozen prefix over one split in inference mode, once, for all its items."""
    label, view = _label(items[0]), items[0].view
    began, done = time.perf_counter(), 0
    try:
        with ExitStack() as stack:
            writers = [
                stack.enter_context(
                    store.writer(item.key, item.num_rows, item.specs, item.ingredients)
                )
                for item in items
            ]
            for outputs in below.batches(source, view):
                of_edge = dict(zip(below.edges, outputs, strict=True))
                for item, writer in zip(items, writers, strict=True):
                    writer.write([of_edge[edge] for edge in item.cut.edges])
                done += len(outputs[0])
                progress(label, done, source.num_examples)
    except OverflowError as error:
        raise ConfigError(
            f"features.dtype must be able to hold the features. Received: {error} at "
            f"{', '.join(item.cut.name for item in items)}. Use float32, or bfloat16."
        ) from error
    cuts = ", ".join(item.cut.name for item in items)
    seconds = time.perf_counter() - began
    log.info("features of %s at %s: %d samples, %.1f s", label, cuts, done, seconds)
