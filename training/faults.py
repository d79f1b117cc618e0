"""What is wrong with a configuration, in more words than its decoder has: what stands there, what
else may, and which name a mistyped one is near."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec

WHERE: Final = re.compile(r" - at `\$(?P<path>[^`]*)`$")
STEP: Final = re.compile(r"\.([^.\[\]]+)|\[([^\]]*)\]")
UNKNOWN: Final = re.compile(r"Object contains unknown field `(?P<name>[^`]*)`")
BOUND: Final = re.compile(r"^Expected `.*` [<>]")  # what was found is not said


def explained(message: str, tree: Any, struct: type[msgspec.Struct]) -> str:
    """msgspec's message of why `tree` is no `struct`, with what its reader asks next.

    >>> class Dials(msgspec.Struct, forbid_unknown_fields=True):
    ...     epochs: int = 1
    >>> explained("Object contains unknown field `epoch`", {"epoch": 2}, Dials)
    'Object contains unknown field `epoch`; was epochs meant?'
    """
    where = WHERE.search(message)
    steps = [name or place for name, place in STEP.findall(where["path"] if where else "")]
    schema = msgspec.json.schema(struct)
    here = list(_at(schema, steps, schema["$defs"]))
    if unknown := UNKNOWN.match(message):
        known = [name for each in here for name in each.get("properties", ())]
        near = difflib.get_close_matches(unknown["name"], known, 1)
        return f"{message}; was {near[0]} meant?" if near else message
    if permitted := [str(value) for each in here for value in each.get("enum", ())]:
        return f"{message}; expected one of {', '.join(permitted)}"
    value = _value(tree, steps) if BOUND.match(message) else None
    return message if value is None else f"{message}; got {value!r}"


def _at(schema: Any, steps: list[str], named: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The schemas, of those that a value may follow, that lie at the steps."""
    if "$ref" in schema:
        yield from _at(named[schema["$ref"].rpartition("/")[2]], steps, named)
    elif "anyOf" in schema:
        for each in schema["anyOf"]:
            yield from _at(each, steps, named)
    elif not steps:
        yield schema
    else:
        within = schema.get("properties", {}).get(steps[0])
        within = within or schema.get("items") or schema.get("additionalProperties")
        if isinstance(within, Mapping):
            yield from _at(within, steps[1:], named)


def _value(tree: Any, steps: list[str]) -> Any:
    """What stands at the steps; None where they lead into any of several, or nowhere."""
    for step in steps:
        try:
            tree = tree[int(step)] if isinstance(tree, list) else tree[step]
        except (KeyError, TypeError, ValueError, IndexError):
            return None
    return tree
