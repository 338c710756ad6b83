"""The memory that examples may use, and the error for splits that need more."""

import numpy as np
import psutil

from finetune.errors import ConfigError


def memory_budget() -> int:
    """Returns how many bytes examples may use: half of the free memory."""
    return psutil.virtual_memory().available // 2


def num_bytes(examples: np.ndarray) -> int:
    """Returns the size of the examples in bytes, or in characters for texts."""
    return examples.nbytes if examples.dtype != object else sum(map(len, examples))


def too_large(name: str, part: str, count: int, budget: int) -> ConfigError:
    """Returns the error for a split whose stored examples do not fit into memory."""
    return ConfigError(
        f"dataset.max_samples must keep the examples within half of the free memory. Received: "
        f"{name}, more than {budget / 2**30:.1f} GiB by example {count} of {part}. "
        f"Set dataset.max_samples below {count}."
    )
