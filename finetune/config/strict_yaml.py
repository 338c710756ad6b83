"""Reads YAML that is only data: no tags, no objects, and nothing that grows when it is read.

Hydra's own loader makes no Python objects, but it expands aliases without a limit, raises
RecursionError for deep nesting, and follows `_target_`. Files that others may have written are therefore
checked here first.
"""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import yaml
from yaml.constructor import ConstructorError

from finetune.config.texts import Kind, keep_texts
from finetune.errors import ConfigError

MAX_BYTES = 1 << 20  # 200 times the largest config of this project
MAX_DEPTH = 40
MAX_NODES = 50_000  # every use of an alias counts
MAX_DIGITS = 400  # the largest float has 309
# What Hydra instantiates, and what logging's dictConfig calls.
EXECUTABLE_KEYS = ("_target_", "_partial_", "_args_", "_convert_", "_recursive_", "()")
_STRING, _MERGE = "tag:yaml.org,2002:str", "tag:yaml.org,2002:merge"


class _Loader(yaml.SafeLoader):
    """The safe loader without timestamps: a date is text, as OmegaConf reads it."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, regexp) for tag, regexp in resolvers if not tag.endswith(":timestamp")]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def load_strictly(
    content: bytes, source: str, aliases: bool = True, kind: Kind | None = None
) -> Any:
    """Returns the content of a YAML document: None, texts, numbers, lists, and mappings with text keys.

    Args:
        content: Content of the file.
        source: Name of the file in messages, e.g. its path.
        aliases: Whether anchors and aliases are allowed. Expanded aliases count towards the limits.
        kind: Type of the value, whose texts are kept as they are typed; None for values that are not
            part of a config.

    Raises:
        ConfigError: If the document holds anything else, or exceeds a limit.
    """
    if len(content) > MAX_BYTES:
        raise _refused(source, f"at most {MAX_BYTES >> 20} MiB of YAML", f"{len(content)} bytes")
    try:
        text = content.decode("utf-8")
        _check_events(text, source, aliases)
        node = yaml.compose(text, _Loader)
        if node is None:
            return None
        for problem in _problems(node):
            raise _refused(source, *problem)
        keep_texts(node, kind)
        return _Loader("").construct_document(node)
    except UnicodeDecodeError as error:
        raise _refused(source, "UTF-8 text", str(error)) from error
    except yaml.YAMLError as error:
        raise _refused(source, "YAML", " ".join(str(error).split())) from error
    except (ValueError, RecursionError) as error:
        raise _refused(source, "YAML that Python can read", str(error)) from error


def _refused(source: str, expected: str, received: str) -> ConfigError:
    return ConfigError(f"{source} must hold {expected}. Received: {received}. Edit the file.")


def _check_events(text: str, source: str, aliases: bool) -> None:
    """Refuses tags, deep nesting and long documents while parsing, before any object is built."""
    depth = count = 0
    for event in yaml.parse(text, _Loader):
        count += 1
        line = event.start_mark.line + 1
        tag = getattr(event, "tag", None)
        if tag is not None:
            raise _refused(source, "no YAML tags", f"{tag} in line {line}")
        if isinstance(event, yaml.AliasEvent) and not aliases:
            raise _refused(source, "no YAML aliases", f"*{event.anchor} in line {line}")
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > MAX_DEPTH:
            raise _refused(source, f"at most {MAX_DEPTH} levels", f"more in line {line}")
        if count > 2 * MAX_NODES:
            raise _refused(source, f"at most {MAX_NODES} values", f"more in line {line}")


def _problems(root: yaml.Node) -> Iterator[tuple[str, str]]:
    """Yields what is expected and what was received for every node that is not plain data."""
    sizes: dict[int, int] = {}
    if _size(root, sizes, set()) > MAX_NODES:
        yield f"at most {MAX_NODES} values", "aliases that expand to more"
        return
    seen: set[int] = set()
    pending = [root]
    while pending:
        node = pending.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, yaml.MappingNode):
            yield from _key_problems(node)
            pending += [value for _, value in node.value]
        elif isinstance(node, yaml.SequenceNode):
            pending += node.value
        elif node.tag != _STRING and len(node.value) > MAX_DIGITS:
            yield f"numbers of at most {MAX_DIGITS} digits", f"{len(node.value)} digits"


def _size(node: yaml.Node, sizes: dict[int, int], open_nodes: set[int]) -> int:
    """Returns the number of nodes with all aliases expanded; stores the size of every node."""
    if id(node) in sizes:
        return sizes[id(node)]
    if id(node) in open_nodes:
        raise ConstructorError(None, None, "an alias of what it is in", node.start_mark)
    open_nodes.add(id(node))
    children: list[yaml.Node] = []
    if isinstance(node, yaml.MappingNode):
        children = [child for pair in node.value for child in pair]
    elif isinstance(node, yaml.SequenceNode):
        children = node.value
    sizes[id(node)] = 1 + sum(_size(child, sizes, open_nodes) for child in children)
    open_nodes.discard(id(node))
    return sizes[id(node)]


def _key_problems(node: yaml.MappingNode) -> Iterator[tuple[str, str]]:
    for key, _ in node.value:
        line = key.start_mark.line + 1
        if key.tag not in (_STRING, _MERGE):
            shown = key.value if isinstance(key, yaml.ScalarNode) else f"a {key.id}"
            yield (
                "keys that are text (quoted where they read as a number)",
                f"{shown} in line {line}",
            )
        elif key.value in EXECUTABLE_KEYS:
            yield "no key that chooses what runs", f"{key.value} in line {line}"
    names = Counter(key.value for key, _ in node.value if key.tag == _STRING)
    for name, count in names.items():
        if count > 1:
            yield "each key once", f"{name} {count} times"
