"""One pass over a split writes the features of every cut that is wanted of it."""

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from finetune.errors import ConfigError
from finetune.features.cut import Cut
from finetune.features.entries import Item
from finetune.features.feeding import Source
from finetune.features.graph import Call, Edge, Graph, Part, run
from finetune.features.store import EntryWriter, Store

log = logging.getLogger(__name__)

ROWS_AT_ONCE = 32  # of a CPU: larger batches are no faster and hold more memory
_MEASURED_ROWS = 8
Progress = Callable[[str, int, int], None]


def make_missing(
    items: Sequence[Item],
    store: Store,
    graph: Graph,
    sources: Mapping[str, Source],
    progress: Progress,
) -> int:
    """Makes those of `items` that the store lacks: one pass over each split and view.

    Another process that makes one of them is waited for.

    Args:
        items: what will be read.
        store: where it goes.
        graph: of the task model.
        sources: the splits.
        progress: called with (split, rows done, rows in all); a total of 0 is a wait.

    Returns:
        Samples that went through the prefix.

    Raises:
        ConfigError: if `features.dtype` cannot hold the features.
    """
    missing = [item for item in items if store.open(item.key) is None]
    if not missing:
        return 0

    def waiting() -> None:
        log.info("another process extracts the same features; waiting for it")
        progress("waiting for another process", 0, 0)

    num_extracted = 0
    with store.locked([item.key for item in missing], waiting):
        missing = [item for item in missing if store.open(item.key) is None]
        store.make_room(sum(item.num_bytes for item in missing), [item.key for item in items])
        for split, view in dict.fromkeys((item.split, item.view) for item in missing):
            group = [item for item in missing if (item.split, item.view) == (split, view)]
            _extract(group, store, graph, sources[split], progress)
            num_extracted += sources[split].num_examples
    return num_extracted


def _extract(
    items: Sequence[Item], store: Store, graph: Graph, source: Source, progress: Progress
) -> None:
    """Runs the frozen prefix over one split in inference mode, once, for all its items."""
    split, view = items[0].split, items[0].view
    label = split if view is None else f"{split}, view {view}"
    began, done = time.perf_counter(), 0
    writers: list[EntryWriter] = []
    try:
        for item in items:
            writers.append(store.writer(item.key, item.num_rows, item.specs, item.ingredients))
        part, edges = prefix(graph, [item.cut for item in items])
        for outputs in batches_of(part, source, view):
            of_edge = dict(zip(edges, outputs, strict=True))
            for item, writer in zip(items, writers, strict=True):
                writer.write([of_edge[edge] for edge in item.cut.edges])
            done += len(outputs[0])
            progress(label, done, source.num_examples)
        for writer in writers:
            writer.commit()
    except OverflowError as error:
        raise ConfigError(
            f"features.dtype must be able to hold the features. Received: {error} at "
            f"{', '.join(item.cut.name for item in items)}. Use float32, or bfloat16."
        ) from error
    finally:
        for writer in writers:
            writer.abort()
    cuts = ", ".join(item.cut.name for item in items)
    seconds = time.perf_counter() - began
    log.info("features of %s at %s: %d samples, %.1f s", label, cuts, done, seconds)


def prefix(graph: Graph, cuts: Sequence[Cut]) -> tuple[Part, list[Edge]]:
    """Returns the part below all `cuts`, and the edges that it returns."""
    calls = {index for cut in cuts for index in cut.calls}
    edges = list(dict.fromkeys(edge for cut in cuts for edge in cut.edges))
    return Part(graph, calls, graph.inputs, edges), edges


def batches_of(part: Part, source: Source, view: int | None) -> Iterator[list[np.ndarray]]:
    """Yields what `part` returns for each batch of a split, as NumPy arrays."""
    data = source.inputs(ROWS_AT_ONCE, view).prefetch(tf.data.AUTOTUNE)

    # One trace for all batches: the batch dimension of the data's own spec is open.
    @tf.function(input_signature=[data.element_spec])
    def forward(inputs: Any) -> Any:
        return part(tuple(keras.tree.flatten(inputs)), training=False)

    for batch in data:
        yield [np.asarray(each) for each in forward(batch)]


def measure(graph: Graph, source: Source, view: int | None, calls: set[int]) -> dict[int, float]:
    """Measures the forward pass call by call on a few rows of the data.

    Returns:
        Seconds for one row, by index of the call; the second of two rounds.
    """
    (batch,) = source.inputs(min(_MEASURED_ROWS, source.num_examples), view).take(1)
    flat = keras.tree.flatten(batch)
    num_rows = int(flat[0].shape[0])
    seconds: dict[int, float] = {}
    for _ in range(2):
        values = dict(zip(graph.inputs, flat, strict=True))
        last = {edge: index for index in sorted(calls) for edge in graph.calls[index].inputs}
        for index in sorted(calls):
            seconds[index] = _timed(graph.calls[index], values) / num_rows
            for edge in graph.calls[index].inputs:
                if last[edge] == index and edge not in graph.inputs:
                    values.pop(edge, None)
    return seconds


def _timed(call: Call, values: dict[Edge, Any]) -> float:
    began = time.perf_counter()
    run([call], values, training=False)
    np.asarray(values[call.outputs[-1]])  # waits for a GPU
    return time.perf_counter() - began
