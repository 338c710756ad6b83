"""An entry of two arrays; without TensorFlow, for processes that are killed."""

import numpy as np

from finetune.features.arrays import ArraySpec
from finetune.features.store import key_of

KEY, OTHER = key_of({"n": 0}), key_of({"n": 1})
SPECS = [ArraySpec((3,), "float32"), ArraySpec((), "int32")]
ARRAYS = np.arange(12, dtype=np.float32).reshape(4, 3), np.arange(4, dtype=np.int32)


def put(store, key=KEY):
    """Writes the entry in two batches."""
    with store.writer(key, 4, SPECS, {"label": "é"}) as writer:
        for rows in (slice(0, 3), slice(3, 4)):
            writer.write([array[rows] for array in ARRAYS])


def is_whole(entry):
    return entry is not None and all(map(np.array_equal, entry.arrays, ARRAYS))
