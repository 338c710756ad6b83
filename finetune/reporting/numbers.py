"""The notation of numbers on pages, in pictures and in the terminal."""

from collections.abc import Mapping, Sequence

from rich.filesize import decimal


def number(value: float, digits: int = 4) -> str:
    """Returns an integer as 1,234, other numbers with decimals, and NaN as –.

    >>> [number(value) for value in (1234, 0.5, 1e6, 1e30, float("nan"))]
    ['1,234', '0.5000', '1e+06', '1e+30', '–']
    """
    if isinstance(value, int):
        return f"{value:,}"
    if value != value:
        return "–"
    return f"{value:.{digits}f}" if abs(value) < 1e6 else f"{value:.4g}"


def percent(value: float, digits: int = 2) -> str:
    """Returns 99.25% for 0.9925, and – for NaN."""
    return "–" if value != value else f"{value:.{digits}%}"


def duration(seconds: float) -> str:
    """Returns 0.42 s, 14.2 s, 3 min 20 s or 2 h 5 min."""
    if seconds < 1:
        return f"{seconds:.2g} s"
    if round(seconds, 1) < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def compact(count: int) -> str:
    """Returns 1.2 M for 1,227,594: at most three digits and a letter.

    >>> [compact(count) for count in (0, 128, 2570, 73984, 999_950, 1_227_594, 22_700_000)]
    ['0', '128', '2.6 k', '74 k', '1 M', '1.2 M', '23 M']
    """
    value, letters = float(count), iter(("", " k", " M", " G", " T"))
    letter = next(letters)
    while value >= 999.5:
        value, letter = value / 1000, next(letters)
    digits = 1 if letter and value < 9.95 else 0
    return f"{value:.{digits}f}".removesuffix(".0") + letter


def size(value: int) -> str:
    """Returns 22.7 MB for 22,700,000, in units of 1000 as in `ls --si`."""
    return decimal(value)


def worded(value: object) -> str:
    """Returns a plain value without Python's brackets, quotes, None and True.

    >>> [worded(v) for v in ([32, 32], [0.0, 0.0, 0.5], True, None, {"a": 1, "b": "x"}, 1e-05)]
    ['32 × 32', '0, 0, 0.5', 'yes', 'none', 'a 1, b x', '1e-05']
    """
    if hasattr(value, "item") and getattr(value, "ndim", None) == 0:  # a scalar of NumPy
        value = value.item()  # type: ignore[attr-defined] - it has one
    if value is None or isinstance(value, bool):
        return {None: "none", True: "yes", False: "no"}[value]
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {worded(item)}" for name, item in value.items()) or "none"
    if isinstance(value, Sequence) and not isinstance(value, str):
        size_like = len(value) == 2 and all(type(item) is int for item in value)
        return (" × " if size_like else ", ").join(map(worded, value)) or "none"
    return str(value)


def plural(count: int, noun: str) -> str:
    """Returns 1 epoch, 2 epochs."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
