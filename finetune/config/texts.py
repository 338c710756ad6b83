"""Which keys of the config hold text, and YAML whose texts are kept as they are typed.

YAML reads `1e3`, `true`, `2024_01` and `.5` as numbers, so that the version `1e3` of a dataset would
become `1000.0`. Here the type of the key decides.
"""

from dataclasses import fields, is_dataclass
from types import NoneType, UnionType
from typing import Any, get_args, get_origin

import yaml

from finetune.config import freeze
from finetune.config.schema import Config, PhaseConfig, ScheduleConfig, trackers_config

Kind = Any
"""The type of a value: a dataclass, `str`, `str | None`, `list[str]`…; None where none is known."""

_STRING, _NULL, _MERGE = (f"tag:yaml.org,2002:{name}" for name in ("str", "null", "merge"))


class Phases:
    """The kind of `schedule.phases`: a mapping from any name to a phase."""


class Freeze:
    """The kind of `freeze` of a phase: a mapping whose keys depend on the policy that it names."""


def kind_of(path: str, root: Kind = Config) -> Kind:
    """Returns the type of a key.

    >>> kind_of("dataset.batch_size")
    <class 'int'>
    >>> kind_of("schedule.phases.head.freeze.stages")
    list[str] | None
    """
    kind = root
    for part in path.split(".") if path else ():
        kind = kind_within(kind, part)
    return kind


def kind_within(kind: Kind, key: str) -> Kind:
    """Returns the type of a key of a mapping, given the type of the mapping."""
    if kind is Phases:
        return PhaseConfig
    if kind is Config and key == "trackers":
        return type(trackers_config())  # with the keys of plug-ins
    if kind is ScheduleConfig and key == "phases":
        return Phases
    if kind is PhaseConfig and key == "freeze":
        return Freeze
    if kind is Freeze:
        return freeze.type_of_key(key)
    if not is_dataclass(kind):
        return None
    return {field.name: field.type for field in fields(kind)}.get(key)


def keys_within(kind: Kind) -> list[str]:
    """Returns the keys of a mapping, given its type: its own first, then those that it inherits."""
    if kind is Freeze:
        return freeze.known_keys()
    if not is_dataclass(kind):
        return []
    own = vars(kind)["__annotations__"]
    return [*own, *(field.name for field in fields(kind) if field.name not in own)]


def kind_of_items(kind: Kind) -> Kind:
    """Returns the type of the items of a list; None for another type."""
    lists = [choice for choice in _choices(kind) if get_origin(choice) is list]
    return get_args(lists[0])[0] if lists else None


def holds_text(kind: Kind) -> bool:
    """Tells whether a value of a type is text, or text or nothing."""
    return str in _choices(kind)


def may_be_null(kind: Kind) -> bool:
    """Tells whether a value of a type may be missing."""
    return NoneType in _choices(kind)


_DESCRIBED = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}


def described(kind: Kind) -> str | None:
    """Returns what a value of a type is, in words; None for a type that no key has.

    >>> described(int | None)
    'a whole number, or null'
    >>> described(list[str])
    'a list'
    """
    if may_be_null(kind) and isinstance(kind, UnionType):
        named = [described(choice) for choice in _choices(kind) if choice is not NoneType]
        return " or ".join(filter(None, named)) + ", or null"
    if kind_of_items(kind) is not None:
        return "a list"
    if kind is Phases:
        return "a mapping {NAME: {KEY: VALUE}}"
    if keys_within(kind):
        return f"a mapping with the keys {', '.join(keys_within(kind))}"
    return _DESCRIBED.get(kind)


def keep_texts(node: yaml.Node | None, kind: Kind) -> None:
    """Makes plain scalars text where the config wants text, in place.

    Args:
        node: Node that PyYAML has composed and not yet constructed.
        kind: Type of the value.
    """
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            merged = key.tag == _MERGE
            keep_texts(value, kind if merged else kind_within(kind, str(key.value)))
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            keep_texts(item, kind_of_items(kind))
    elif isinstance(node, yaml.ScalarNode) and node.style is None and holds_text(kind):
        if node.tag != _NULL or not may_be_null(kind):
            node.tag = _STRING


def _choices(kind: Kind) -> tuple[Kind, ...]:
    return get_args(kind) if isinstance(kind, UnionType) else (kind,)
