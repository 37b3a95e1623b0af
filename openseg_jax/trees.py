"""JSON and YAML texts of people, read as trees of dictionaries, lists, strings, numbers, true, false and null.

Both readers refuse what a tree cannot hold or a reader could overlook: keys that stand twice, NaN and infinity, deep
nesting, and in YAML references to other parts and tags, by which a small text becomes a huge tree or an object.
"""

import json
import math
from pathlib import Path
from typing import Any

import yaml

from openseg_jax.errors import InputError
from openseg_jax.files import read_text

DEEPEST = 32  # levels of nesting
LARGEST = 2**20  # bytes of a file
_EVENTS = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_SCALARS = {f"tag:yaml.org,2002:{name}" for name in ("str", "int", "float", "bool", "null")}


def read_tree(path: str | Path) -> Any:
    """Returns the tree of a YAML file, which ends in .yaml or .yml, or of a JSON file.

    Raises:
        InputError: If the file cannot be read, is too large, or holds no tree.
    """
    path = Path(path)
    try:
        size = path.stat().st_size if path.is_file() else None
    except OSError as error:  # a name that the file system cannot have
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    if size is None:
        raise InputError(f"there is no file {path}")
    if size > LARGEST:
        raise InputError(f"{path} has {size} bytes: files of this kind are written by hand and have at most {LARGEST}")
    return (parse_yaml if path.suffix in (".yaml", ".yml") else parse_json)(read_text(path), str(path))


def parse_json(text: str, where: str) -> Any:
    """Returns the tree of a JSON text. Raises InputError, which calls the text `where`, if there is none."""
    return _parse(_json, text, where, "JSON")


def parse_yaml(text: str, where: str) -> Any:
    """Returns the tree of a YAML text. Raises InputError, which calls the text `where`, if there is none."""
    return _parse(_yaml, text, where, "YAML")


def _parse(reader, text: str, where: str, kind: str) -> Any:
    try:
        return reader(text.removeprefix("\ufeff"))
    except RecursionError as error:
        raise InputError(f"{where} is not valid {kind}: it nests deeper than {DEEPEST} levels") from error
    except (ValueError, yaml.YAMLError) as error:  # a ValueError is also that of numbers with thousands of digits
        says = " ".join(str(error).replace('in "<unicode string>", ', "at ").split())
        raise InputError(f"{where} is not valid {kind}: {says[:300]}") from error


def _json(text: str) -> Any:
    tree = json.loads(text, object_pairs_hook=_object, parse_constant=_finite, parse_float=_finite)
    _check_depth(tree)
    return tree


def _check_depth(tree: Any, level: int = 0) -> None:
    if level > DEEPEST:
        raise RecursionError
    if isinstance(tree, (dict, list)):
        for entry in tree.values() if isinstance(tree, dict) else tree:
            _check_depth(entry, level + 1)


def _object(pairs: list[tuple[Any, Any]]) -> dict:
    found: dict = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"the key {key!r} stands twice in one object")
        found[key] = value
    return found


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is no number")
    return number


def _yaml(text: str) -> Any:
    """Builds the tree from events: PyYAML's own builder recurses, and follows references and tags."""
    loader, values = yaml.SafeLoader(""), []
    around: list[
        tuple[bool, list]
    ] = []  # the mappings and lists around an event: whether it is a mapping, and its parts
    for event in yaml.parse(text, Loader=_EVENTS):
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise ValueError(f"line {event.start_mark.line + 1} refers to another part: write it out")
        if isinstance(event, yaml.CollectionStartEvent):
            if event.tag:
                raise ValueError(f"line {event.start_mark.line + 1} has the tag {event.tag}, of which there are none")
            around.append((isinstance(event, yaml.MappingStartEvent), []))
            if len(around) > DEEPEST:
                raise RecursionError
            continue
        if isinstance(event, yaml.ScalarEvent):
            value = _scalar(loader, event)
        elif isinstance(event, yaml.CollectionEndEvent):
            is_mapping, parts = around.pop()
            value = _mapping(parts, event) if is_mapping else parts
        else:
            continue
        (around[-1][1] if around else values).append(value)
    if len(values) > 1:
        raise ValueError("it holds several documents")
    return values[0] if values else None


def _mapping(parts: list, event: yaml.Event) -> dict:
    keys = parts[::2]
    if not all(isinstance(key, str) for key in keys):
        other = next(key for key in keys if not isinstance(key, str))
        raise ValueError(f"the key {other!r} before line {event.start_mark.line + 1} is no string: quote it")
    return _object(list(zip(keys, parts[1::2], strict=True)))


def _scalar(loader: yaml.SafeLoader, event: yaml.ScalarEvent) -> Any:
    tag = event.tag or loader.resolve(yaml.ScalarNode, event.value, event.implicit)
    if tag not in _SCALARS:  # such as dates, which are their text here
        if event.tag:
            raise ValueError(f"line {event.start_mark.line + 1} has the tag {tag}, of which there are none")
        return event.value
    try:
        value = loader.construct_object(yaml.ScalarNode(tag, event.value))
    except (LookupError, TypeError) as error:  # PyYAML's, on a text that is not of its tag
        raise ValueError(f"line {event.start_mark.line + 1}: {event.value!r} is not of its kind") from error
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"line {event.start_mark.line + 1}: {event.value} is no number")
    return value
