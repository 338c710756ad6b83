"""What the cost model needs to know of this machine, measured when it is asked."""

import os
import shutil
import tempfile
import time
from pathlib import Path

import psutil

from finetune.features.feeding import MEMORY_SHARE
from finetune.features.planner import Machine
from finetune.storage.durable import FULL


def this_machine(directory: Path, max_bytes: int) -> Machine:
    """Measures disk and memory. A disk that takes nothing, as with a used-up quota, has no room.

    Args:
        directory: of the store.
        max_bytes: budget of the store.
    """
    free = shutil.disk_usage(directory).free
    try:
        speed = disk_speed(directory)
    except OSError as error:
        if error.errno not in FULL:
            raise
        speed, free = 1.0, 0
    return Machine(
        max_bytes=max_bytes,
        free_bytes=free,
        memory_bytes=int(psutil.virtual_memory().available * MEMORY_SHARE),
        bytes_per_second=speed,
    )


def disk_speed(directory: Path, num_bytes: int = 8 * 2**20) -> float:
    """Measures how fast this directory takes data: bytes a second, flushed to disk."""
    data = os.urandom(num_bytes)
    with tempfile.TemporaryFile(dir=directory) as file:  # without a name: a kill leaves nothing
        began = time.perf_counter()
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
        return num_bytes / max(time.perf_counter() - began, 1e-6)
