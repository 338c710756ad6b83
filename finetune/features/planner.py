"""What to store: a cost model over what was measured on this machine. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.filesize import decimal


@dataclass(frozen=True)
class Machine:
    """What the decision needs to know of this machine.

    Args:
        max_bytes: budget of the store.
        free_bytes: free on its disk.
        memory_bytes: what may be held in memory for gathering.
        bytes_per_second: how fast the disk takes data.
    """

    max_bytes: int
    free_bytes: int
    memory_bytes: int
    bytes_per_second: float


@dataclass(frozen=True)
class Need:
    """One cut that phases want to read.

    Args:
        epochs: of all its phases together.
        rows: samples to store: every view of the training split, validation, test.
        rows_per_epoch: samples that an epoch reads: training and validation.
        bytes_per_row: of one sample on disk.
        seconds_per_row: forward pass below the cut for one sample; 0 if it was not measured.
        on_disk: whether all of it is stored already.
        required: whether a phase cannot do without it.
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
    """Whether a cut is stored, and why; seconds are those of the forecast."""

    stored: bool
    reason: str
    saves_seconds: float = 0.0
    costs_seconds: float = 0.0


def decide(needs: Sequence[Need], mode: str, machine: Machine) -> list[Verdict]:
    """Decides for every cut whether its features are stored.

    One pass serves all cuts, so the deepest one that is stored pays for the forward pass, and
    every further one only for what it writes. A cut is worth it if training then saves more
    seconds than storing costs.

    Args:
        needs: any order.
        mode: ``auto``, or ``always`` (whatever it costs, within the budget).
        machine: budget, disk and memory.

    Returns:
        One verdict a need, in the same order.
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
    """Returns the verdict of what is stored already: it is read, whatever it saves."""
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
