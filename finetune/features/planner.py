"""What to store: a cost model over what is measured on this machine."""

import os
import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
from rich.filesize import decimal

from finetune.storage.durable import FULL

MEMORY_SHARE = 0.5  # of the free memory: features up to this are gathered in memory


@dataclass(frozen=True)
class Machine:
    """What the decision depends on besides the features.

    Args:
        max_bytes: Budget of the store.
        free_bytes: Free bytes on its disk.
        memory_bytes: Bytes of features that may be held in memory.
        bytes_per_second: Speed of writing to the disk.
    """

    max_bytes: int
    free_bytes: int
    memory_bytes: int
    bytes_per_second: float


@dataclass(frozen=True)
class Need:
    """The features at one cut that phases could read.

    Args:
        epochs: Number of epochs of all these phases together.
        rows: Number of samples to store: every view of the training split, validation, test.
        rows_per_epoch: Number of samples that an epoch reads: training and validation.
        bytes_per_row: Bytes of one sample on disk.
        seconds_per_row: Seconds of the forward pass below the cut for one sample; 0 if not measured.
        on_disk: Whether all of them are stored already.
        required: Whether a phase cannot train without them.
    """

    epochs: int
    rows: int
    rows_per_epoch: int
    bytes_per_row: int
    seconds_per_row: float
    on_disk: bool = False
    required: bool = False

    @property
    def num_bytes(self) -> int:
        """Bytes of all rows."""
        return self.rows * self.bytes_per_row


@dataclass(frozen=True)
class Verdict:
    """Whether the features at a cut are stored, and why, with the seconds of the forecast."""

    stored: bool
    reason: str
    saves_seconds: float = 0.0
    costs_seconds: float = 0.0


def decide(needs: Sequence[Need], mode: str, machine: Machine) -> list[Verdict]:
    """Decides for every cut whether its features are stored.

    One pass serves all cuts, so the deepest one that is stored pays for the forward pass, and
    every other one only for what it writes. Features are worth storing if training then saves more
    seconds than storing costs.

    Args:
        needs: One for each cut, in any order.
        mode: ``auto``, or ``always`` (whatever it costs, within the budget).
        machine: Budget, disk and memory.

    Returns:
        One verdict for each need, in the same order.
    """
    verdicts: dict[int, Verdict] = {}
    paid_per_row, room = 0.0, min(machine.max_bytes, int(machine.free_bytes * 0.9))
    by_depth = sorted(range(len(needs)), key=lambda i: (-needs[i].seconds_per_row, i))
    for index in by_depth:
        need = needs[index]
        if need.on_disk:
            verdicts[index] = on_disk(need)
            continue
        saves, costs = _saved(need), _cost(need, paid_per_row, machine)
        if need.num_bytes > room:
            what = "features.max_gib" if machine.max_bytes <= machine.free_bytes else "free disk"
            reason = f"needs {decimal(need.num_bytes)}, {what} leaves {decimal(max(room, 0))}"
            verdicts[index] = Verdict(False, reason, saves, costs)
            continue
        worth = mode == "always" or need.required or saves > costs
        if worth:
            room -= need.num_bytes
            paid_per_row = max(paid_per_row, need.seconds_per_row)
        verdicts[index] = Verdict(worth, _reason(need, mode, worth), saves, costs)
    return [verdicts[index] for index in range(len(needs))]


def on_disk(need: Need) -> Verdict:
    """Returns the verdict on features that are stored already: they are read, whatever that saves."""
    return Verdict(True, "on disk already", _saved(need))


def _saved(need: Need) -> float:
    return need.seconds_per_row * need.rows_per_epoch * need.epochs


def _cost(need: Need, paid_per_row: float, machine: Machine) -> float:
    forward = max(need.seconds_per_row - paid_per_row, 0.0) * need.rows
    written = need.num_bytes / machine.bytes_per_second
    read = need.epochs * written if need.num_bytes > machine.memory_bytes else 0.0
    return forward + written + read


def _reason(need: Need, mode: str, worth: bool) -> str:
    if need.required:
        return "solver lbfgs reads it"
    if mode == "always":
        return "features.cache=always"
    return "saves time" if worth else "would cost time"


def this_machine(directory: Path, max_bytes: int) -> Machine:
    """Measures disk and memory; a disk that refuses data, as with a used-up quota, has no room.

    Args:
        directory: Directory of the store.
        max_bytes: Budget of the store.
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
    """Measures the speed of writing to this directory in bytes per second, flushed to disk."""
    data = os.urandom(num_bytes)
    with tempfile.TemporaryFile(dir=directory) as file:  # without a name: a kill leaves nothing
        began = time.perf_counter()
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
        return num_bytes / max(time.perf_counter() - began, 1e-6)
