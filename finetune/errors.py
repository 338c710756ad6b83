"""The one error family: every failure that a user can fix says what, where and how.

Message form: ``<path> must be <expected>. Received: <value>. <How to fix>.``
"""

from collections.abc import Iterable, Sequence
from difflib import get_close_matches


class FinetuneError(Exception):
    """Base of every error this package raises on purpose; ``exit_code`` is the command's."""

    exit_code = 1


class ConfigError(FinetuneError):
    """The user's input is wrong; carries every problem that was found, not only the first.

    Args:
        problems: one message, or several that are reported together.
    """

    exit_code = 2

    def __init__(self, problems: str | Iterable[str]) -> None:
        self.problems: tuple[str, ...] = (
            (problems,) if isinstance(problems, str) else tuple(problems)
        )
        super().__init__("\n".join(self.problems))


class FrozenWeightsError(FinetuneError):
    """A weight that a phase holds still has changed: the run's promise is broken."""


class StorageError(FinetuneError):
    """Something could not be written; what was there before is whole."""


class TrainingError(FinetuneError):
    """Training itself failed, for example for want of memory."""


class NotFiniteError(TrainingError):
    """A loss is NaN or infinite.

    Args:
        received: the loss, and where it was.
        override: of the learning rate, to try.
        advice: what to do with the override, which is put after it; None: resume the run.
    """

    def __init__(self, received: str, override: str, advice: str | None = None) -> None:
        if advice is None:
            advice = "Resume the run from its last checkpoint, changes allowed, with another rate:"
        super().__init__(
            f"the loss must stay finite. Received: {received}. {advice} {override} (or "
            "optimizer.clipnorm=1)."
        )
        self.received, self.override = received, override


def first_line(error: BaseException) -> str:
    """Returns the first line of what an error says, without a full stop; else its class."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")


# What other programs call a key.
SHORT_NAMES = {
    "lr": "learning_rate",
    "rate": "learning_rate",
    "epoch": "epochs",
    "num_epochs": "epochs",
    "batch": "batch_size",
    "bs": "batch_size",
    "wd": "weight_decay",
    "decay": "weight_decay",
    "depth": "unfreeze_depth",
    "early_stopping": "patience",
    "size": "image_size",
    "img_size": "image_size",
    "max_length": "sequence_length",
    "grad_clip": "clipnorm",
}


def nearest(name: str, valid: Sequence[str]) -> str | None:
    """Returns the valid name most like `name`, or None where none is close."""
    if SHORT_NAMES.get(name) in valid:
        return SHORT_NAMES[name]
    same = [each for each in valid if each.casefold() == name.casefold()]
    found = same or get_close_matches(name, valid, n=1, cutoff=0.6)
    return found[0] if found else None


def told_apart(name: str, received: str) -> str:
    r"""Returns a name; where another could look the same, with the characters of both written out.

    >>> print(told_apart("caf\xe9", "cafe\u0301"))
    café ('caf\xe9', and not 'cafe\u0301')
    """
    both = name + received
    if both.isascii() and both.isprintable() and both.split() == [both]:
        return name
    return f"{name} ({ascii(name)}, and not {ascii(received)})"


def unknown_name(where: str, kind: str, name: str, valid: Iterable[str]) -> str:
    """Returns the message for a name that is not in a closed list.

    Args:
        where: the config path or argument that holds the name, e.g. ``freeze.policy``.
        kind: what the name should be, with its article, e.g. ``a policy``.
        name: what was received.
        valid: every valid name; listed in full up to 30, else the most similar.
    """
    names = list(valid)
    close = nearest(name, names)
    shown = ", ".join(names)
    if len(names) > 30:
        similar = get_close_matches(name, names, n=8, cutoff=0.3)
        shown = f"{len(names)} names, among them {', '.join(similar or names[:8])}"
    hint = f" Did you mean {told_apart(close, name)}?" if close is not None else ""
    return f"{where} must be {kind}. Received: {name}. Valid: {shown or 'none'}.{hint}"
