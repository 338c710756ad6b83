"""Overrides in Hydra's grammar: keeps texts as they are typed, and quotes values that need it.

Hydra's grammar reads `1e3` as a number and allows `~`, `=`, `é` and brackets only inside of quotes. If
the key holds text, such a value can only be meant as text.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from antlr4 import CommonTokenStream, InputStream
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, Quote, QuotedString, ValueType
from hydra.errors import HydraException, OverrideParseException
from hydra.grammar.gen.OverrideLexer import OverrideLexer
from hydra.grammar.gen.OverrideParser import OverrideParser

from finetune.config.schema import GROUPS
from finetune.config.strict_yaml import EXECUTABLE_KEYS, load_strictly
from finetune.config.texts import Kind, holds_text, kind_of, kind_of_items, kind_within, may_be_null
from finetune.errors import ConfigError
from finetune.keras_internals import hydra_jobs
from finetune.launcher import may_sweep, typed_again

PHASES = "schedule.phases."
# Hydra's own keys that name directories.
_PLACES = ("hydra.run.dir", "hydra.sweep.dir", "hydra.sweep.subdir")
_NAME = str | None  # type of the name of a config in a group
_READ_AS_OTHERS = (OverrideLexer.INT, OverrideLexer.FLOAT, OverrideLexer.BOOL)
_WITH_VALUES = (
    OverrideParser.ValueContext,
    OverrideParser.SimpleChoiceSweepContext,
    OverrideParser.ElementContext,
    OverrideParser.PrimitiveContext,
    OverrideParser.ListContainerContext,
    OverrideParser.DictContainerContext,
    OverrideParser.DictKeyValuePairContext,
    OverrideParser.FunctionContext,
)
_OF_ELEMENTS = ("choice", "shuffle", "sort", "tag")  # functions that return their arguments


def normalise(overrides: Sequence[str], swept: bool = False) -> list[str]:
    """Returns overrides that Hydra reads the way a user means them.

    The value of a key that holds text is kept as text. A key of a phase may be set even if the file of
    the schedule does not list it: ``schedule.phases.head.patience=3`` becomes
    ``++schedule.phases.head.patience=3``. Keys that a phase does not have are refused when the config
    is read.

    Args:
        overrides: Overrides as typed.
        swept: Whether ``a,b`` is two values for two jobs.

    Raises:
        ConfigError: If an override chooses code that Hydra would run.
    """
    for override in overrides:
        named = [key for key in (*EXECUTABLE_KEYS[:2], "hydra.callbacks") if key in override]
        if named:
            raise ConfigError(
                f"{named[0]} must be left out: no config chooses which code runs. Received: {override}. "
                "Remove it."
            )
    return [_addable(keep_text(override, swept)) for override in overrides]


def _addable(override: str) -> str:
    key = override.partition("=")[0]
    return f"++{override}" if key.startswith(PHASES) and key.count(".") >= 3 else override


def keep_text(override: str, swept: bool = False) -> str:
    """Returns an override with quotes around texts that Hydra would read as something else.

    Args:
        override: ``KEY=VALUE``; anything else is returned as it is.
        swept: Whether a comma separates values.
    """
    key, equals, value = override.partition("=")
    kind = _kind(key.lstrip("+"))
    if not equals or kind is None:
        return override
    parsed = _parse(override)
    if not holds_text(kind):
        return override if parsed is None else _quoted_within(override, kind)
    if parsed is None or value != value.strip():
        whole = value and _is_unicode(value) and not (swept and "," in value)
        return f"{key}={quote(value)}" if whole else override
    several = parsed.is_sweep_override() or key.lstrip("+") in GROUPS
    if several or not isinstance(parsed.value(), list | dict):
        return _quoted_within(override, kind)
    return f"{key}={quote(value)}"


def _is_unicode(text: str) -> bool:
    """Tells whether a text can be saved; bytes of file names that are not valid text cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def first_job(overrides: Sequence[str]) -> list[str]:
    """Returns the overrides of the first job of a sweep, as far as the overrides alone determine it."""
    parser = OverridesParser.create()
    jobs = []
    for override in overrides:
        parsed = parser.parse_override(keep_text(override, swept=True))
        if not parsed.is_sweep_override():
            jobs.append(override)
        elif parsed.is_discrete_sweep() and parsed.value_type != ValueType.GLOB_CHOICE_SWEEP:
            value = next(iter(parsed.sweep_string_iterator()))
            jobs.append(f"{override.partition('=')[0]}={value}")
    return jobs


def jobs(overrides: Sequence[str]) -> Iterator[list[str]]:
    """Yields the overrides of every job that Hydra's own sweeper makes of a sweep."""
    kept = [keep_text(override, swept=True) for override in overrides]
    parsed = OverridesParser.create().parse_overrides(kept)
    if all(swept.is_discrete_sweep() for swept in parsed if swept.is_sweep_override()):
        yield from hydra_jobs(parsed)


def unswept(overrides: Sequence[str]) -> list[str]:
    """Returns the overrides that all jobs of a sweep share."""
    parser = OverridesParser.create()
    return [
        override
        for override in overrides
        if not parser.parse_override(keep_text(override, swept=True)).is_sweep_override()
    ]


def quote(value: str) -> str:
    """Returns a text in quotes, in Hydra's grammar."""
    return QuotedString(value, Quote.single if '"' in value else Quote.double).with_quotes()


def literal(value: object) -> str:
    """Returns a text in quotes, in Hydra's grammar, without interpolation."""
    return quote(str(value).replace("${", "\\${"))


def _corrected(override: str, swept: bool) -> str | None:
    """Returns an override with its texts in quotes; None if quotes cannot correct it."""
    key, equals, value = override.partition("=")
    kind = _kind(key.lstrip("+"))
    if not equals or not _is_unicode(override):
        return None
    if value.startswith(("[", "{")) and not holds_text(kind):
        try:
            read = load_strictly(value.encode(), key, kind=kind)
        except ConfigError:
            return None
        names = read if isinstance(read, dict) else {}
        known = all(kind_within(kind, name) is not None for name in names)
        return f"{key}={_in_grammar(read)}" if known else None
    if not holds_text(kind):
        return None
    values = value.split(",") if swept else [value]
    return f"{key}={','.join(quote(text.strip()) for text in values)}"


def _in_grammar(value: Any) -> str:
    """Returns a value in Hydra's grammar, with its texts in quotes."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_in_grammar(v)}" for key, v in value.items()) + "}"
    if isinstance(value, list):
        return f"[{', '.join(map(_in_grammar, value))}]"
    if isinstance(value, str):
        return quote(value)
    return "null" if value is None else str(value).lower()


def unparsed(overrides: Sequence[str], swept: bool = False) -> list[str]:
    """Returns a message for every override that is not valid in Hydra's grammar.

    Args:
        overrides: Overrides as typed.
        swept: Whether a comma separates values.
    """
    refused: dict[str, str] = {}
    for override in overrides:
        detail = _refusal(keep_text(override, swept))
        if detail is not None:
            refused[override] = detail
    found = {override: _corrected(override, swept) for override in refused}
    corrected = {override: text for override, text in found.items() if text is not None}
    how = f" Quote the value, as in: {typed_again(corrected)}" if corrected else ""
    return [
        f"Arguments must be KEY=VALUE, +KEY=VALUE or ~KEY. Received: {override} ({detail})."
        f"{how if override in corrected else ''}"
        for override, detail in refused.items()
    ]


def _refusal(override: str) -> str | None:
    """Returns what is wrong with the syntax of an override, or None."""
    try:
        OverridesParser.create().parse_overrides([override])
    except OverrideParseException as error:
        return _syntax(error)
    except (HydraException, ValueError, OverflowError, RecursionError):
        return None  # composing the config reports it
    return None


def _syntax(error: OverrideParseException) -> str:
    """Returns what is wrong with an override, from a message whose last line is a link."""
    lexer = "LexerNoViableAltException: "
    detail = (error.message.splitlines()[:-1] or [error.message])[-1]
    if detail.strip() == "^":  # it points to the character that is not allowed
        at = len(detail) - 1 - len(lexer)
        return f"{error.override[at : at + 1]!r} is not allowed here without quotes"
    return "it has no =" if detail.startswith("missing EQUAL") else detail


def several_values(override: str) -> str:
    """Returns the message for a sweep over a key in a command that makes one run."""
    key, _, value = override.partition("=")
    kind = _kind(key.lstrip("+"))
    message = f"{key} must have one value in one run. Received: {value}. " + (
        f"To run once with every value, add -m: {typed_again({}, '-m')}"
        if may_sweep()
        else "Only train can run once with every value, with -m"
    )
    if kind_of_items(kind) is not None:
        other = f"{key}=[{value}]"
        return f"{message}. If it is a list: {typed_again({override: other})}"
    if holds_text(kind):
        other = f"{key}={quote(value)}"
        return f"{message}. If the comma belongs to the value: {typed_again({override: other})}"
    return message


def _kind(key: str) -> Kind:
    """Returns the type of the value after ``KEY=``; for a group, that of the name of a config."""
    if key in GROUPS:
        return _NAME
    return str if key in _PLACES else kind_of(key)


def _parse(override: str) -> Override | None:
    try:
        return OverridesParser.create().parse_override(override)
    except (HydraException, ValueError):  # ValueError: numbers of 5000 digits
        return None


def _quoted_within(override: str, kind: Kind) -> str:
    """Puts quotes around the texts inside of a value that Hydra would read as something else."""
    lexer = OverrideLexer(InputStream(override))
    tree = OverrideParser(CommonTokenStream(lexer)).override()
    for first, last, in_function in sorted(_misread(tree, kind), reverse=True):
        text = quote(override[first : last + 1])
        if in_function:  # it removes the quotes, and Hydra reads its result again
            text = f"'{text}'"
        override = f"{override[:first]}{text}{override[last + 1 :]}"
    return override


def _first_word(node: Any) -> str:
    return node.getChild(0).getText()


def _misread(node: Any, kind: Kind, in_function: bool = False) -> Iterator[tuple[int, int, bool]]:
    """Yields the first and last position of every text that Hydra misreads, and if it is in a function."""
    if isinstance(node, OverrideParser.PrimitiveContext):
        leaves: list[Any] = list(node.getChildren())
        tokens = [leaf.symbol for leaf in leaves]
        tokens = [token for token in tokens if token.type != OverrideLexer.WS]
        if len(tokens) == 1 and holds_text(kind):
            token = tokens[0]
            null = token.type == OverrideLexer.NULL and not may_be_null(kind)
            if token.type in _READ_AS_OTHERS or null:
                yield token.start, token.stop, in_function
        return
    if isinstance(node, OverrideParser.ListContainerContext):
        kind, in_function = kind_of_items(kind), False
    elif isinstance(node, OverrideParser.DictKeyValuePairContext):
        kind = kind_within(kind, _first_word(node))
    elif isinstance(node, OverrideParser.FunctionContext):
        kind, in_function = kind if _first_word(node) in _OF_ELEMENTS else None, True
    for child in node.getChildren():
        if isinstance(child, _WITH_VALUES):
            yield from _misread(child, kind, in_function)
