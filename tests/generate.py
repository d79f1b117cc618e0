"""`make docs`: writes what is generated, the JSON schemas and the README's tables."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import inspect
from prometheus_client import CollectorRegistry

from training.config import Config
from training.telemetry import Telemetry as TrainingTelemetry
from worker import settings
from worker.events import Behaviour, Item, ListRule, Profile, RankedList, SearchEvent
from worker.policies import Policy
from worker.telemetry import Telemetry

ROOT: Final = Path(__file__).resolve().parent.parent
SCHEMAS: Final = ROOT / "worker" / "schemas"
README: Final = ROOT / "README.md"
KINDS: Final = {
    inspect.StrType: "text",
    inspect.IntType: "whole number",
    inspect.FloatType: "number",
    inspect.DateTimeType: "time",
    inspect.AnyType: "value",
}
SIGNS: Final = {"gt": ">", "ge": "≥", "lt": "<", "le": "≤"}


def schemas() -> dict[str, bytes]:
    """File name -> JSON schema, of every message."""
    messages = (SearchEvent, RankedList, Behaviour, Item, ListRule, Policy, Profile)
    return {
        f"{message.__name__}.json": msgspec.json.format(
            msgspec.json.encode(msgspec.json.schema(message), order="deterministic"), indent=1
        )
        + b"\n"
        for message in messages
    }


def readme(text: str) -> str:
    """The README with its generated tables; AssertionError where it has no place for one."""
    tables = {
        "settings": settings.table(),
        "metrics": metrics(Telemetry().registry),
        "training settings": training_settings(),
        "training metrics": metrics(TrainingTelemetry().registry),
    }
    for name, table in tables.items():
        place = re.compile(rf"(?<=<!-- {name} -->\n).*?(?=<!-- /{name} -->)", re.DOTALL)
        text, places = place.subn(lambda _, table=table: table + "\n", text)  # type: ignore[misc]
        assert places == 1, f"<!-- {name} --> stands in the README {places} times, expected once"
    return text


def metrics(registry: CollectorRegistry) -> str:
    """Every metric of a registry: name, kind and meaning."""
    rows = ["| metric | kind | meaning |", "|---|---|---|"]
    for metric in registry.collect():
        rows.append(f"| `{metric.name}` | {metric.type} | {metric.documentation} |")
    return "\n".join(rows)


def training_settings() -> str:
    """Every field of training's configuration, a section after the other."""
    rows = ["| setting | default | takes | meaning |", "|---|---|---|---|"]
    config = inspect.type_info(Config)
    assert isinstance(config, inspect.StructType)
    return "\n".join((*rows, *_rows(config)))


def _rows(section: inspect.StructType, prefix: str = "") -> Iterator[str]:
    for field in section.fields:
        name = prefix + field.encode_name
        if isinstance(field.type, inspect.StructType):
            yield from _rows(field.type, f"{name}.")
            continue
        if (each := _table_of(field.type)) is not None:
            yield from _rows(each, f"{name}[].")
            continue
        takes, meaning = _told(field.type)
        cells = (f"`{name}`", _default(field), takes, meaning)
        yield "| {} |".format(" | ".join(cell.replace("|", "\\|") for cell in cells))


def _table_of(kind: inspect.Type) -> inspect.StructType | None:
    """What a list of tables has in each; None where it is none."""
    if isinstance(kind, inspect.Metadata):
        kind = kind.type
    one = kind.item_type if isinstance(kind, inspect.VarTupleType) else None
    return one if isinstance(one, inspect.StructType) else None


def _told(kind: inspect.Type) -> tuple[str, str]:
    """(what a field takes, what it means)."""
    if isinstance(kind, inspect.Metadata):
        return _takes(kind.type), (kind.extra_json_schema or {}).get("description", "")
    return _takes(kind), ""


def _takes(kind: inspect.Type) -> str:
    if isinstance(kind, inspect.Metadata):
        return _takes(kind.type)
    if isinstance(kind, inspect.UnionType):
        return " or ".join(
            _takes(each) for each in kind.types if not isinstance(each, inspect.NoneType)
        )
    if isinstance(kind, inspect.LiteralType):
        return ", ".join(f"`{_toml(value)}`" for value in kind.values)
    if isinstance(kind, inspect.BoolType):
        return "`true`, `false`"
    if isinstance(kind, inspect.VarTupleType):
        return f"list: {_takes(kind.item_type)}"
    if isinstance(kind, inspect.StructType):
        return "table of " + ", ".join(f"`{field.encode_name}`" for field in kind.fields)
    if isinstance(kind, inspect.DictType):
        return f"table: {_takes(kind.value_type)}"
    bounds = [
        f"{sign} {limit}"
        for name, sign in SIGNS.items()
        if (limit := getattr(kind, name, None)) is not None
    ]
    return " ".join((KINDS[type(kind)], ", ".join(bounds))).strip()


def _default(field: inspect.Field) -> str:
    if field.required:
        return "required"
    made = field.default_factory
    value = field.default if made is msgspec.NODEFAULT else made()
    return "" if value is None else f"`{_toml(value)}`"


def _toml(value: Any) -> str:
    """A value as a configuration writes it."""
    if isinstance(value, Mapping):
        pairs = ", ".join(f"{name} = {_toml(each)}" for name, each in value.items())
        return f"{{ {pairs} }}" if pairs else "{}"
    text = msgspec.json.encode(value).decode()  # the same for texts, numbers, lists and booleans
    return text.strip('"') if isinstance(value, datetime) else text


def main() -> None:
    """Write all of it."""
    SCHEMAS.mkdir(exist_ok=True)
    for name, schema in schemas().items():
        (SCHEMAS / name).write_bytes(schema)
    README.write_text(readme(README.read_text()))


if __name__ == "__main__":
    main()
