"""`make docs`: writes what is generated, the JSON schemas and the README's table of settings."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import msgspec

from worker import settings
from worker.events import (
    Behaviour,
    Item,
    ListRule,
    Policy,
    Profile,
    RankedList,
    SearchEvent,
)
from worker.telemetry import Telemetry

ROOT: Final = Path(__file__).resolve().parent.parent
SCHEMAS: Final = ROOT / "worker" / "schemas"
README: Final = ROOT / "README.md"


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
    """The README with its generated tables."""
    for name, table in (("settings", settings.table()), ("metrics", metrics())):
        place = re.compile(rf"(?<=<!-- {name} -->\n).*?(?=<!-- /{name} -->)", re.DOTALL)
        text = place.sub(lambda _, table=table: table + "\n", text)  # type: ignore[misc]
    return text


def metrics() -> str:
    """Every metric of the worker: name, kind, labels and meaning."""
    rows = ["| metric | kind | meaning |", "|---|---|---|"]
    for metric in Telemetry().registry.collect():
        rows.append(f"| `{metric.name}` | {metric.type} | {metric.documentation} |")
    return "\n".join(rows)


def main() -> None:
    """Write all of it."""
    SCHEMAS.mkdir(exist_ok=True)
    for name, schema in schemas().items():
        (SCHEMAS / name).write_bytes(schema)
    README.write_text(readme(README.read_text()))


if __name__ == "__main__":
    main()
