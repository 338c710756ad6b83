"""Runs an artifact in the runtime of its format.

It also runs as a separate process, which imports nothing from this package:
``python -I runtime.py FORMAT ARTIFACT INPUTS.npz OUTPUT.npy``.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

OUTPUT = "probabilities"
Batch = Mapping[str, np.ndarray]


def probabilities(name: str, artifact: Path, batches: Sequence[Batch]) -> np.ndarray:
    """Returns the (n, classes) float32 probabilities that an artifact computes.

    Args:
        name: Name of the format.
        artifact: File or folder of the artifact.
        batches: Batches of inputs by name; texts are arrays of str.
    """
    run = _RUNTIMES[name](artifact)
    return np.concatenate([np.asarray(run(batch), np.float32) for batch in batches])


def pack(batches: Sequence[Batch]) -> dict[str, np.ndarray]:
    """Returns batches as the arrays of one npz file."""
    return {
        f"{row}/{name}": array for row, batch in enumerate(batches) for name, array in batch.items()
    }


def unpack(arrays: Mapping[str, np.ndarray]) -> list[dict[str, np.ndarray]]:
    """Returns the batches of `pack`."""
    batches: dict[int, dict[str, np.ndarray]] = {}
    for key in arrays:
        row, _, name = key.partition("/")
        batches.setdefault(int(row), {})[name] = arrays[key]
    return [batches[row] for row in sorted(batches)]


def _keras(artifact: Path) -> Callable[[Batch], Any]:
    import keras
    import keras_hub  # noqa: F401 - registers its layers

    model: Any = keras.saving.load_model(artifact)

    def run(batch: Batch) -> Any:
        given = dict(batch) if len(batch) > 1 else next(iter(batch.values()))
        return model.predict(given, verbose=0)[OUTPUT]

    return run


def _saved_model(artifact: Path) -> Callable[[Batch], Any]:
    import tensorflow as tf
    import tensorflow_text  # noqa: F401 - registers the operations of tokenizers

    serve = tf.saved_model.load(str(artifact)).signatures["serving_default"]  # type: ignore[attr-defined]
    return lambda batch: serve(**{k: tf.constant(_plain(v)) for k, v in batch.items()})[OUTPUT]


def _onnx(artifact: Path) -> Callable[[Batch], Any]:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(artifact), providers=["CPUExecutionProvider"])
    return lambda batch: session.run([OUTPUT], dict(batch))[0]


def _litert(artifact: Path) -> Callable[[Batch], Any]:
    from ai_edge_litert.interpreter import Interpreter

    run = Interpreter(str(artifact)).get_signature_runner()
    return lambda batch: run(**batch)[OUTPUT]


def _plain(array: np.ndarray) -> Any:
    return array.tolist() if array.dtype.kind == "U" else array


_RUNTIMES = {"keras": _keras, "saved_model": _saved_model, "onnx": _onnx, "litert": _litert}


if __name__ == "__main__":
    _, chosen, place, given, answer = sys.argv
    with np.load(given) as arrays:
        np.save(answer, probabilities(chosen, Path(place), unpack(arrays)))
