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

ROOT: Final = Path(__file__).resolve().parent.parent
SCHEMAS: Final = ROOT / "worker" / "schemas"
README: Final = ROOT / "README.md"
TABLE: Final = re.compile(r"(?<=<!-- settings -->\n).*?(?=\n<!-- /settings -->)", re.DOTALL)


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
    """The README with its generated table."""
    return TABLE.sub(lambda _: settings.table(), text)


def main() -> None:
    """Write all of it."""
    SCHEMAS.mkdir(exist_ok=True)
    for name, schema in schemas().items():
        (SCHEMAS / name).write_bytes(schema)
    README.write_text(readme(README.read_text()))


if __name__ == "__main__":
    main()
