"""The ``freeze`` mapping of a phase: the name of a policy and its keys, and the policy made of them.

The keys of a policy are the fields of its class. A class is imported when a config names it, or when
a key might be one of its own.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import MISSING, Field, field, fields, make_dataclass
from functools import cache
from inspect import getdoc
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from finetune.config import plugins
from finetune.errors import ConfigError, unknown_name

GROUP = "policies"
DEFAULT = "depth"
_SCALARS = (int, float, bool, str)


def unset() -> dict[str, Any]:
    """Returns the mapping of a phase that sets nothing: the keys of all built-in policies, null."""
    return {"policy": DEFAULT, **dict.fromkeys(_built_in_keys())}


def policy_class(name: str, where: str) -> Any:
    """Imports a policy and returns its class.

    Args:
        name: What the config calls the policy.
        where: Config path of the ``freeze`` mapping, for messages.

    Raises:
        ConfigError: If there is no such policy, or if it is broken.
    """
    policy = plugins.load(GROUP, name, f"{where}.policy")
    stated = getattr(policy, "name", None)
    if stated != name:
        raise ConfigError(
            f"{where}.policy must be a policy whose class states this name. Received: {name} of "
            f"{plugins.origin(GROUP, name)}, whose class has name = {stated!r}. Write "
            f"name: ClassVar[str] = {name!r} in the class."
        )
    try:
        _key_types(policy)
    except (TypeError, NameError) as error:
        raise ConfigError(
            f"{where}.policy must be a policy whose keys are int, float, bool, str or a tuple of "
            f"these. Received: {name} of {plugins.origin(GROUP, name)}: {error}. Change this field "
            "of the class."
        ) from error
    return policy


def key_types(name: str) -> dict[str, Any]:
    """Returns the keys of a policy with the types of their values in a config.

    Raises:
        ConfigError: As for `policy_class`.
    """
    return _key_types(policy_class(name, "freeze"))


def description(name: str) -> str:
    """Returns the first paragraph of the docstring of a policy, in one line.

    Raises:
        ConfigError: As for `policy_class`.
    """
    text = getdoc(policy_class(name, "freeze")) or ""
    return " ".join(text.partition("\n\n")[0].split())


def type_of_key(key: str) -> Any:
    """Returns the type of a key of the mapping, whatever the policy; None for an unknown key."""
    if key == "policy":
        return str
    types = _built_in_keys()
    return types[key] if key in types else _all_keys().get(key)


def known_keys() -> list[str]:
    """Returns the keys that the mapping may hold with the policies of this program."""
    return ["policy", *_built_in_keys()]


def schema_of(name: Any, given: Iterable[str]) -> type:
    """Returns a dataclass of the keys that the mapping may hold, which the config is read by.

    The keys of other policies are among them, so that a check can say whose they are.

    Args:
        name: What the config calls the policy; it need not exist.
        given: The keys that the config sets.
    """
    own = _types_or_none(name) if isinstance(name, str) else {}
    types = own | {key: kind for key, kind in _built_in_keys().items() if key not in own}
    if not set(given) <= {"policy", *types}:
        types |= {key: kind for key, kind in _all_keys().items() if key not in types}
    keys = [(key, kind, field(default=None)) for key, kind in types.items()]
    return make_dataclass("Freeze", [("policy", str, field(default=DEFAULT)), *keys])


def check_freeze(freeze: Mapping[str, Any], where: str) -> Iterator[str]:
    """Yields every problem of the mapping that needs no model."""
    name = freeze["policy"]
    try:
        policy = policy_class(name, where)
    except ConfigError as error:
        yield from error.problems
        return
    keys = {key.name: key for key in fields(policy)}
    for key, value in freeze.items():
        if key != "policy" and key not in keys and value is not None:
            yield _foreign(name, key, value, where)
    missing = [k for k in keys if freeze.get(k) in (None, []) and _default(keys[k]) is MISSING]
    for key in missing:
        yield f"{where}.{key} must be set for policy {name}. Received: nothing. Add {where}.{key}=…"
    if not missing:
        try:
            with plugins.guarded(GROUP, name, f"{where}.policy"):
                problems = list(_made(policy, freeze).problems(where))
        except ConfigError as error:
            problems = error.problems
        yield from problems


def make_policy(freeze: Mapping[str, Any], where: str) -> Any:
    """Returns the policy that the mapping describes.

    Args:
        freeze: ``policy`` and its keys; a key that is null counts as left out.
        where: Config path of the mapping, for messages.

    Raises:
        ConfigError: With every problem that needs no model.
    """
    problems = list(check_freeze(freeze, where))
    if problems:
        raise ConfigError(problems)
    return _made(policy_class(freeze["policy"], where), freeze)


def as_mapping(policy: Any) -> dict[str, Any]:
    """Returns the mapping that describes a policy: its name, and the keys not at their default."""
    mapping = {"policy": policy.name}
    for key in fields(policy):
        value = getattr(policy, key.name)
        if value != _default(key):
            mapping[key.name] = list(value) if isinstance(value, tuple) else value
    return mapping


def _made(policy: Any, freeze: Mapping[str, Any]) -> Any:
    given = {key.name: freeze.get(key.name) for key in fields(policy)}
    return policy(
        **{
            name: tuple(value) if isinstance(value, list) else value
            for name, value in given.items()
            if value is not None
        }
    )


def _default(key: Field) -> Any:
    return key.default if key.default_factory is MISSING else key.default_factory()


def _foreign(name: str, key: str, value: Any, where: str) -> str:
    owners = [other for other in plugins.names(GROUP) if key in _types_or_none(other)]
    if not owners:
        return unknown_name(f"{where}.{key}", "a key of the config", key, known_keys())
    return (
        f"{where}.{key} must be left out: policy {name} does not use it, and two rules would disagree. "
        f"Received: {value}. Set {where}.{key}=null, or {where}.policy={owners[0]}."
    )


@cache
def _key_types(policy: Any) -> dict[str, Any]:
    hints = get_type_hints(policy)
    return {key.name: _type_in_config(key.name, hints[key.name]) for key in fields(policy)}


def _type_in_config(key: str, hint: Any) -> Any:
    """Returns the type that YAML has for a field: a list for a tuple, and null for no value.

    Raises:
        TypeError: If a config cannot hold such a value.
    """
    union = get_origin(hint) in (Union, UnionType)
    choices = [kind for kind in get_args(hint) if kind is not NoneType] if union else [hint]
    kind = choices[0]
    item, *rest = get_args(kind) if get_origin(kind) is tuple else (kind,)
    if key == "policy":
        raise TypeError("its key policy would hide the name of the policy")
    if len(choices) != 1 or item not in _SCALARS or rest not in ([], [...]):
        raise TypeError(f"its key {key} is {hint}")
    return (list[item] if rest else item) | None


def _types_or_none(name: str) -> dict[str, Any]:
    """Returns the keys of a policy; none of one that is broken, which only its use reports."""
    try:
        return key_types(name)
    except ConfigError:
        return {}


@cache
def _built_in_keys() -> dict[str, Any]:
    return _merged(map(_key_types, plugins.built_in(GROUP).values()))


def _all_keys() -> dict[str, Any]:
    return _merged(map(_types_or_none, plugins.names(GROUP)))


def _merged(types_of_policies: Iterable[dict[str, Any]]) -> dict[str, Any]:
    merged: dict[str, Any] = {}
    for types in types_of_policies:
        merged |= {key: kind for key, kind in types.items() if key not in merged}
    return merged
