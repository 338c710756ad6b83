"""What the cost model needs to know of this machine, measured when it is asked."""

import os
import shutil
import time
from pathlib import Path

import psutil

from finetune.features.feeding import MEMORY_SHARE
from finetune.features.planner import Machine


def this_machine(directory: Path, max_bytes: int) -> Machine:
    """Measures disk and memory.

    Args:
        directory: of the store; made if it is not there.
        max_bytes: budget of the store.
    """
    speed = disk_speed(directory)
    return Machine(
        max_bytes=max_bytes,
        free_bytes=shutil.disk_usage(directory).free,
        memory_bytes=int(psutil.virtual_memory().available * MEMORY_SHARE),
        bytes_per_second=speed,
    )


def disk_speed(directory: Path, num_bytes: int = 8 * 2**20) -> float:
    """Measures how fast this directory takes data: bytes a second, flushed to disk."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f".{os.getpid()}.speed"
    data = os.urandom(num_bytes)
    try:
        began = time.perf_counter()
        with path.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        return num_bytes / max(time.perf_counter() - began, 1e-6)
    finally:
        path.unlink(missing_ok=True)
