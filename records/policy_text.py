"""Where in a policy's text something stands, so that a mistake is named by its line."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import yaml
from pydantic import ValidationError

from resunet.errors import SettingsError

# Keys and, of lists, places, as text.
Place = tuple[str, ...]
Lines = Mapping[Place, int]

_SHORT_FLOAT = re.compile(r"[+-]?[0-9]+e[+-]?[0-9]+", re.IGNORECASE)
_MERGE = "tag:yaml.org,2002:merge"
# What pydantic says, in words for whoever writes the file.
_TOLD = {
    "extra_forbidden": "there is no such key",
    "missing": "it is missing",
    "dict_type": "it has to hold keys and values (`key: value`)",
    "model_type": "it has to hold keys and values (`key: value`)",
    "model_attributes_type": "it has to hold keys and values (`key: value`)",
    "list_type": "it has to be a list (`[one, two]`)",
    "string_too_short": "it is empty",
}


class _Found(NamedTuple):
    """A place, its line, and whether the same key stood in the same mapping before."""

    place: Place
    line: int
    twice: bool


def read_yaml(text: str, name: str) -> tuple[Any, dict[Place, int]]:
    """The content, and the line of each of its places.

    Args:
        name: of the file, for messages.

    Raises:
        SettingsError: it is not YAML, or a key is written twice.
    """
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        lines: dict[Place, int] = {(): 1}
        for place, line, twice in _places(root, (), frozenset(), name):
            if twice:
                raise SettingsError(f"{name}, line {line}: {place[-1]} is written twice, first in line {lines[place]}")
            lines[place] = line
        return yaml.safe_load(text), lines
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        problem = str(error.problem).removeprefix("but ")
        raise SettingsError(f"{name}, line {line}: this is not YAML: {problem}") from error
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise SettingsError(f"{name}, line {line}: a character that YAML does not allow: {error.reason}") from error
    except RecursionError as error:
        raise SettingsError(f"{name}, line 1: there are too many brackets in one another") from error


def explain(error: ValidationError, lines: Lines, file: str, place: Place) -> SettingsError:
    """The first finding, with the line of the deepest part of its place that the file holds.

    Args:
        place: of what was validated.
    """
    first = error.errors(include_url=False)[0]
    # pydantic tells of a bad key by an item of its own behind the key's place.
    where: Place = (*place, *(str(part) for part in first["loc"] if part != "[key]"))
    known = next(where[:end] for end in range(len(where), -1, -1) if where[:end] in lines)
    called = ".".join(where) or "the policy"
    said = _TOLD.get(first["type"], first["msg"].replace("Input should", "it should"))
    given = first.get("input")
    if first["type"] in ("float_type", "int_type", "bool_type") and isinstance(given, str | bool):
        said += f", not {json.dumps(given)}"
        if isinstance(given, str) and _SHORT_FLOAT.fullmatch(given):
            said += ", which YAML reads as text: write 1.0e-3"
    return SettingsError(f"{file}, line {lines[known]}: {called}: {said[:1].lower()}{said[1:]}")


def _places(node: yaml.Node | None, place: Place, above: frozenset[int], name: str) -> Iterator[_Found]:
    """Every place below a node; `above` are the nodes that it lies in."""
    if isinstance(node, yaml.ScalarNode):
        _read_scalar(node, name)
    if not isinstance(node, yaml.CollectionNode):
        return
    if id(node) in above:
        raise SettingsError(f"{name}, line {node.start_mark.line + 1}: an alias holds itself")
    above |= {id(node)}
    if isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            yield _Found((*place, str(index)), item.start_mark.line + 1, False)
            yield from _places(item, (*place, str(index)), above, name)
    elif isinstance(node, yaml.MappingNode):
        merged = [value for key, value in node.value if key.tag == _MERGE]
        for value in merged:
            for one in value.value if isinstance(value, yaml.SequenceNode) else [value]:
                yield from _places(one, place, above, name)
        seen: set[str] = set()
        for key, value in node.value:
            if key.tag == _MERGE:
                continue
            if isinstance(key, yaml.ScalarNode):
                _read_scalar(key, name)
            inner = (*place, str(key.value))
            yield _Found(inner, key.start_mark.line + 1, str(key.value) in seen)
            seen.add(str(key.value))
            yield from _places(value, inner, above, name)


def _read_scalar(node: yaml.ScalarNode, name: str) -> None:
    """See that a value can be read: a date that does not exist is an error without a line to PyYAML."""
    try:
        yaml.SafeLoader("").construct_object(node)
    except (ValueError, KeyError, AttributeError) as error:
        said = error if isinstance(error, ValueError) else f"it is no {node.tag.rpartition(':')[2]}"
        raise SettingsError(f"{name}, line {node.start_mark.line + 1}: {node.value}: {said}") from error
