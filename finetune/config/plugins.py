"""Entries that a config may name: those of this program, of installed packages and of this process.

A package offers entries as entry points in the groups ``finetune.policies``, ``finetune.datasets``,
``finetune.backbones``, ``finetune.metrics``, ``finetune.trackers`` and ``finetune.configs``. Names
are known from the metadata of the packages alone; a package is imported when one of its entries is
used. Importing this module loads neither Keras nor TensorFlow.
"""

import inspect
import pkgutil
import re
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from finetune.config import entry_points
from finetune.config.plugin_groups import GROUPS, is_metric
from finetune.errors import ConfigError, FinetuneError, first_line, unknown_name

HOUSE = "finetune"
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")


@dataclass(frozen=True)
class Offer:
    """An entry that is on offer; nothing of it has been imported.

    Args:
        name: What a config calls it.
        origin: ``finetune``, or the package and version, or the module that registered it.
        load: Imports and returns the object.
        package: The distribution to uninstall where it is broken; None: not of a distribution.
        value: The ``module:attribute`` of an entry point.
    """

    name: str
    origin: str
    load: Callable[[], Any]
    package: str | None = None
    value: str = ""


_registered: dict[str, dict[str, Any]] = {group: {} for group in GROUPS}


def names(group: str) -> list[str]:
    """Returns the names of all entries of a group: this program's own first, then the others.

    Args:
        group: ``policies``, ``datasets``, ``backbones``, ``metrics``, ``trackers`` or ``configs``.
    """
    own = [offer.name for offer in _built_in(group)]
    others = {offer.name for offer in installed(group)} | _registered[group].keys()
    return [*own, *sorted(others.difference(own))]


def built_in(group: str) -> dict[str, Any]:
    """Imports and returns the entries of this program by name, whatever plug-ins offer."""
    return {offer.name: offer.load() for offer in _built_in(group)}


def origin(group: str, name: str) -> str:
    """Returns where an entry comes from: ``finetune``, or a package with its version.

    An entry of this process is named by the module that registered it. Where several packages
    offer the name, all of them are returned, joined by ``and``; an unknown name gives ``""``.
    """
    return " and ".join(offer.origin for offer in _offers(group, name))


def is_own(group: str, name: str) -> bool:
    """Tells whether no plug-in offers a name, be it a built-in one or not."""
    return all(offer.origin == HOUSE for offer in _offers(group, name))


def load(group: str, name: str, where: str) -> Any:
    """Imports and returns an entry.

    Args:
        group: As for `names`.
        name: What the config calls the entry.
        where: The config path that holds the name, for messages.

    Raises:
        ConfigError: For a name that nothing offers or that two packages offer, and for an entry
            that cannot be imported or is not what the group asks for; it names the package.
    """
    wanted = GROUPS[group]
    offers = _offers(group, name)
    if not offers:
        raise ConfigError(unknown_name(where, wanted.kind, name, names(group)))
    if len(offers) > 1:
        origins = [offer.origin for offer in offers]
        package = next(offer.package for offer in reversed(offers) if offer.package is not None)
        raise ConfigError(
            f"{where} must be a name that one package offers. Received: {name}, which "
            f"{' and '.join(origins)} both offer. Uninstall one of them: pip uninstall {package}."
        )
    (offer,) = offers
    try:
        entry = offer.load()
    except (Exception, SystemExit) as error:  # whatever a package does when it is imported
        raise ConfigError(
            f"{where} must be {wanted.kind} that can be imported. Received: {name} of "
            f"{offer.origin}, which raised {type(error).__name__}: {first_line(error)}. "
            f"{_remedy(offer)}"
        ) from error
    if not wanted.fits(entry):
        raise ConfigError(
            f"{where} must be {wanted.kind}: {wanted.form}. Received: {name} of {offer.origin}, "
            f"which is {_described(entry)}. {_remedy(offer)}"
        )
    return entry


def call(group: str, name: str, where: str, *arguments: Any) -> Any:
    """Loads an entry and returns what it makes of the arguments.

    Raises:
        ConfigError: As from `load`, and for anything that the code of a plug-in raises.
    """
    entry = load(group, name, where)
    with guarded(group, name, where):
        return entry(*arguments)


@contextmanager
def guarded(group: str, name: str, where: str) -> Iterator[None]:
    """Turns what the code of a plug-in raises into a `ConfigError` that names the package."""
    try:
        yield
    except FinetuneError:
        raise
    except (Exception, SystemExit) as error:
        if is_own(group, name):
            raise
        (offer,) = _offers(group, name)
        raise ConfigError(
            f"{where} must be {GROUPS[group].kind} that works. Received: {name} of {offer.origin}, "
            f"which raised {type(error).__name__}: {first_line(error)}{_line_of(error)}. "
            f"{_remedy(offer)}"
        ) from error


def register(group: str, name: str, entry: Any) -> None:
    """Offers an entry to this process, as the decorators of `finetune` do.

    Defining it again under the same name, as when a cell of a notebook is run twice, replaces it.

    Args:
        group: As for `names`.
        name: Letters, digits, ``_``, ``.`` and ``-``, starting with a letter or ``_``.
        entry: What an entry point of the group would name.

    Raises:
        ConfigError: For a name that something else already has, or an entry of another form.
    """
    wanted = GROUPS[group]
    require_name(group, name)
    if not wanted.fits(entry):
        raise ConfigError(
            f"{name} must be {wanted.kind}: {wanted.form}. Received: {_described(entry)}. "
            "Correct what is registered."
        )
    value = _definition(entry)
    offers = _offers(group, name)
    taken = [o for o in offers if o.value != value and not (o.package and _alike(o.value, value))]
    if taken:
        raise ConfigError(
            f"the name of {wanted.kind} must be new. Received: {name} of {_module(entry)}, which "
            f"{taken[0].origin} already offers. Choose another name."
        )
    _registered[group][name] = entry


def require_name(group: str, name: Any) -> None:
    """Refuses a name that a config could not hold.

    Raises:
        ConfigError: For anything but letters, digits, ``_``, ``.`` and ``-``.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        received = repr(name) if isinstance(name, str) else _described(name)
        raise ConfigError(
            f"the name of {GROUPS[group].kind} must be letters, digits, _, . and -, starting with a "
            f"letter or _. Received: {received}. Choose another name, in parentheses after the "
            "decorator."
        )


def problems() -> list[str]:
    """Returns what is wrong with the entry points of installed packages: one line each."""
    points, unreadable = entry_points.read(tuple(sys.path))
    found = list(unreadable)
    for group in sorted({point.group for _, _, point in points}):
        if group.removeprefix("finetune.") not in GROUPS:
            origins = {f"{package} {version}" for package, version, p in points if p.group == group}
            valid = ", ".join(f"finetune.{name}" for name in GROUPS)
            found.append(f"{', '.join(sorted(origins))}: {group} is none of {valid}")
    return found


def _offers(group: str, name: str) -> list[Offer]:
    """Returns everything that is offered under a name; more than one is a clash."""
    found = [offer for offer in (*_built_in(group), *installed(group)) if offer.name == name]
    entry = _registered[group].get(name)
    if entry is not None:
        value = _definition(entry)
        if not any(_alike(offer.value, value) for offer in found):  # else its package offers both
            found.append(Offer(name, _module(entry), lambda: entry, None, value))
    return found


def _alike(value: str, other: str) -> bool:
    """Tells whether two values name objects of the same top-level package."""
    return re.split("[.:]", value, maxsplit=1)[0] == re.split("[.:]", other, maxsplit=1)[0]


def _built_in(group: str) -> Iterator[Offer]:
    held = GROUPS[group].built_in
    if isinstance(held, str):
        package, _, attribute = held.partition(":")
        folder = Path(__file__).parents[2].joinpath(*package.split("."))
        modules = (module.name for module in pkgutil.iter_modules([str(folder)]))
        held = {m: f"{package}.{m}:{attribute}" for m in modules if not m.startswith("_")}
    for name, value in held.items():
        yield Offer(name, HOUSE, partial(_import, value), None, value)


def _folder(value: str) -> Path:
    """Returns a folder inside a package, without importing the package."""
    top, *parts = value.replace(":", ".").split(".")
    spec = find_spec(top)
    places = [] if spec is None else spec.submodule_search_locations or []
    for place in places:
        folder = Path(place).joinpath(*parts)
        if folder.is_dir():
            return folder
    raise FileNotFoundError(f"there is no folder {'/'.join((top, *parts))}")


def _import(value: str) -> Any:
    module, _, attribute = value.partition(":")
    return getattr(import_module(module), attribute)


def installed(group: str) -> Iterator[Offer]:
    """Yields what installed packages offer in a group; nothing of it is imported."""
    for package, version, point in entry_points.read(tuple(sys.path))[0]:
        if point.group != f"finetune.{group}":
            continue
        value = point.value.partition("[")[0].replace(" ", "")
        load = partial(_folder, value) if group == "configs" else point.load
        yield Offer(point.name, f"{package} {version}", load, package, value)


def _line_of(error: BaseException) -> str:
    """Returns the line of a plug-in that an exception came from, since no traceback is shown."""
    here = str(Path(__file__).parents[1])
    for frame in traceback.extract_tb(error.__traceback__):
        if not frame.filename.startswith(here):
            return f" (line {frame.lineno} of {Path(frame.filename).name})"
    return ""


def _definition(entry: Any) -> str:
    """Returns ``module:qualified name`` of the class or function that an entry is made of."""
    defined = entry.compute if is_metric(entry) else entry
    name = getattr(defined, "__qualname__", type(defined).__qualname__)
    return f"{_module(entry)}:{name}"


def _module(entry: Any) -> str:
    return str((entry.compute if is_metric(entry) else entry).__module__)


def _described(entry: Any) -> str:
    kind = "class" if inspect.isclass(entry) else type(entry).__name__
    return f"{kind} {getattr(entry, '__qualname__', '')}".strip()


def _remedy(offer: Offer) -> str:
    if offer.package is None:
        return "Correct what is registered."
    return f"Repair the package, or remove it: pip uninstall {offer.package}."
