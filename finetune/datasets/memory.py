"""How many bytes of examples may be held, and what is said where they are more."""

import numpy as np
import psutil

from finetune.errors import ConfigError


def memory_budget() -> int:
    """Returns how many bytes of examples may be held: half of what is free."""
    return psutil.virtual_memory().available // 2


def num_bytes(examples: np.ndarray) -> int:
    """Returns the bytes of the examples; the characters, of texts."""
    return examples.nbytes if examples.dtype != object else sum(map(len, examples))


def too_large(name: str, part: str, count: int, budget: int) -> ConfigError:
    """Returns the refusal of a split whose examples, as stored, do not fit into memory."""
    return ConfigError(
        f"dataset.max_samples must keep the examples within half of the memory that is "
        f"free. Received: {name}, more than {budget / 2**30:.1f} GiB by example {count} of {part}. "
        f"Set dataset.max_samples below {count}."
    )
