"""Overrides in Hydra's grammar: texts kept as they are typed, and how to quote what has no other form.

Hydra's grammar reads `1e3` as a number and has no place for `~`, `=`, `é` or brackets outside of
quotes. Where the key holds text, there is nothing else that such a value could mean.
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
# Of Hydra's own keys, those that name places.
_PLACES = ("hydra.run.dir", "hydra.sweep.dir", "hydra.sweep.subdir")
_NAME = str | None  # of a config in a group
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
_OF_ELEMENTS = ("choice", "shuffle", "sort", "tag")  # functions that give back what they get


def normalise(overrides: Sequence[str], swept: bool = False) -> list[str]:
    """Returns overrides that mean to Hydra what they mean to a user.

    A value of a key that holds text is that text. A key of a phase may be set whether or not the
    schedule's file lists it: ``schedule.phases.head.patience=3`` becomes
    ``++schedule.phases.head.patience=3``; what is not a key of a phase is refused when the config is
    read.

    Args:
        overrides: as typed.
        swept: whether ``a,b`` is two values, each for a job of its own.

    Raises:
        ConfigError: for an override that would choose what Hydra runs.
    """
    for override in overrides:
        named = [key for key in (*EXECUTABLE_KEYS[:2], "hydra.callbacks") if key in override]
        if named:
            raise ConfigError(
                f"{named[0]} must be left out: no config chooses what runs. Received: {override}. "
                "Drop it."
            )
    return [_addable(keep_text(override, swept)) for override in overrides]


def _addable(override: str) -> str:
    key = override.partition("=")[0]
    return f"++{override}" if key.startswith(PHASES) and key.count(".") >= 3 else override


def keep_text(override: str, swept: bool = False) -> str:
    """Returns an override whose values are quoted where Hydra would not read them as they are typed.

    Args:
        override: ``KEY=VALUE``; anything else is given back.
        swept: whether a comma separates values.
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
    """Tells whether a text can be saved; bytes of file names that are no text cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def first_job(overrides: Sequence[str]) -> list[str]:
    """Returns the overrides of the first job of a sweep, as far as it can be told from them alone."""
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
    """Yields the overrides of each job that Hydra's own sweeper makes of a sweep."""
    parsed = OverridesParser.create().parse_overrides([keep_text(each, True) for each in overrides])
    if all(each.is_discrete_sweep() for each in parsed if each.is_sweep_override()):
        yield from hydra_jobs(parsed)


def unswept(overrides: Sequence[str]) -> list[str]:
    """Returns the overrides that all jobs of a sweep have in common."""
    parser = OverridesParser.create()
    return [
        override
        for override in overrides
        if not parser.parse_override(keep_text(override, swept=True)).is_sweep_override()
    ]


def quote(value: str) -> str:
    """Returns a text as Hydra's grammar takes it."""
    return QuotedString(value, Quote.single if '"' in value else Quote.double).with_quotes()


def literal(value: object) -> str:
    """Returns a text as Hydra's grammar takes it, in which nothing is interpolated."""
    return quote(str(value).replace("${", "\\${"))


def _corrected(override: str, swept: bool) -> str | None:
    """Returns an override with its texts quoted; None where quotes would not make it one."""
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
    return f"{key}={','.join(quote(each.strip()) for each in values)}"


def _in_grammar(value: Any) -> str:
    """Returns a value in Hydra's grammar, its texts quoted."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_in_grammar(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list):
        return f"[{', '.join(map(_in_grammar, value))}]"
    if isinstance(value, str):
        return quote(value)
    return "null" if value is None else str(value).lower()


def unparsed(overrides: Sequence[str], swept: bool = False) -> list[str]:
    """Returns a message for every override that has no meaning in Hydra's grammar.

    Args:
        overrides: as typed.
        swept: whether a comma separates values.
    """
    refused: dict[str, str] = {}
    for override in overrides:
        detail = _refusal(keep_text(override, swept))
        if detail is not None:
            refused[override] = detail
    found = {override: _corrected(override, swept) for override in refused}
    corrected = {override: each for override, each in found.items() if each is not None}
    how = f" Quote the value, as in: {typed_again(corrected)}" if corrected else ""
    return [
        f"Arguments must be KEY=VALUE, +KEY=VALUE or ~KEY. Received: {override} ({detail})."
        f"{how if override in corrected else ''}"
        for override, detail in refused.items()
    ]


def _refusal(override: str) -> str | None:
    """Returns what is wrong with an override by itself; None where nothing is."""
    try:
        OverridesParser.create().parse_overrides([override])
    except OverrideParseException as error:
        return _syntax(error)
    except (HydraException, ValueError, OverflowError, RecursionError):
        return None  # the composition says so
    return None


def _syntax(error: OverrideParseException) -> str:
    """Returns what is wrong with an override, of a message whose last line is a link."""
    lexer = "LexerNoViableAltException: "
    detail = (error.message.splitlines()[:-1] or [error.message])[-1]
    if detail.strip() == "^":  # below the character that the lexer does not know
        at = len(detail) - 1 - len(lexer)
        return f"{error.override[at : at + 1]!r} is not allowed here without quotes"
    return "it has no =" if detail.startswith("missing EQUAL") else detail


def several_values(override: str) -> str:
    """Returns the message for a sweep over a key in a command that makes one run."""
    key, _, value = override.partition("=")
    kind = _kind(key.lstrip("+"))
    message = f"{key} must have one value in one run. Received: {value}. " + (
        f"To make a run for each, add -m: {typed_again({}, '-m')}"
        if may_sweep()
        else "Only train makes a run for each, with -m"
    )
    if kind_of_items(kind) is not None:
        other = f"{key}=[{value}]"
        return f"{message}. If it is a list: {typed_again({override: other})}"
    if holds_text(kind):
        other = f"{key}={quote(value)}"
        return f"{message}. If the comma belongs to the value: {typed_again({override: other})}"
    return message


def _kind(key: str) -> Kind:
    """Returns the type of what is written behind ``KEY=``: of a group it is the name of a config."""
    if key in GROUPS:
        return _NAME
    return str if key in _PLACES else kind_of(key)


def _parse(override: str) -> Override | None:
    try:
        return OverridesParser.create().parse_override(override)
    except (HydraException, ValueError):  # ValueError: numbers of 5000 digits
        return None


def _quoted_within(override: str, kind: Kind) -> str:
    """Quotes the texts in a value that Hydra reads as something else, at the places where they are."""
    lexer = OverrideLexer(InputStream(override))
    tree = OverrideParser(CommonTokenStream(lexer)).override()
    for first, last, in_function in sorted(_misread(tree, kind), reverse=True):
        text = quote(override[first : last + 1])
        if in_function:  # which takes the quotes off, and Hydra reads its result again
            text = f"'{text}'"
        override = f"{override[:first]}{text}{override[last + 1 :]}"
    return override


def _first_word(node: Any) -> str:
    return node.getChild(0).getText()


def _misread(node: Any, kind: Kind, in_function: bool = False) -> Iterator[tuple[int, int, bool]]:
    """Yields where each text that Hydra reads as a number is: first and last place, in a function."""
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
