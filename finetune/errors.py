"""The errors of this package: every one that a user can fix says what is wrong, where, and how to fix it.

Message form: ``<path> must be <expected>. Received: <value>. <How to fix>.``
"""

from collections.abc import Iterable, Sequence
from difflib import get_close_matches


class FinetuneError(Exception):
    """Base class of the errors that this package raises; ``exit_code`` is that of the command."""

    exit_code = 1


class ConfigError(FinetuneError):
    """The user's input is wrong; holds every problem that was found, not only the first.

    Args:
        problems: One message, or several messages that are reported together.
    """

    exit_code = 2

    def __init__(self, problems: str | Iterable[str]) -> None:
        self.problems: tuple[str, ...] = (
            (problems,) if isinstance(problems, str) else tuple(problems)
        )
        super().__init__("\n".join(self.problems))


class FrozenWeightsError(FinetuneError):
    """A weight that must stay frozen in a phase has changed."""


class StorageError(FinetuneError):
    """A file or directory could not be written; what was there before is intact."""


class TrainingError(FinetuneError):
    """Training itself failed, for example because memory ran out."""


class NotFiniteError(TrainingError):
    """A loss is NaN or infinite.

    Args:
        received: The loss, and where it occurred.
        override: An override that sets a lower learning rate.
        advice: What to do with the override, which is appended to it; None advises to resume the run.
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
    """Returns the first line of an error message without its full stop, or the class if it is empty."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")


# Names that other programs give to a key.
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
    """Returns the valid name that is most similar to `name`, or None if none is similar."""
    if SHORT_NAMES.get(name) in valid:
        return SHORT_NAMES[name]
    same = [candidate for candidate in valid if candidate.casefold() == name.casefold()]
    found = same or get_close_matches(name, valid, n=1, cutoff=0.6)
    return found[0] if found else None


def told_apart(name: str, received: str) -> str:
    r"""Returns a name; if the two could look the same, with the characters of both written out.

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
        where: Config path or argument that holds the name, e.g. ``freeze.policy``.
        kind: What the name should be, with its article, e.g. ``a policy``.
        name: The name that was received.
        valid: All valid names. Up to 30 are listed; of more, only the most similar ones.
    """
    return f"{where} must be {kind}. Received: {name}. Valid: {valid_names(name, valid)}"


def valid_names(name: str, valid: Iterable[str]) -> str:
    """Returns the end of a message about an unknown name: the valid names and the most similar one."""
    names = list(valid)
    close = nearest(name, names)
    shown = ", ".join(names)
    if len(names) > 30:
        similar = get_close_matches(name, names, n=8, cutoff=0.3)
        shown = f"{len(names)} names, among them {', '.join(similar or names[:8])}"
    hint = f" Did you mean {told_apart(close, name)}?" if close is not None else ""
    return f"{shown or 'none'}.{hint}"
