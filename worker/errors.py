"""What can go wrong, and what becomes of the message. Two kinds of failure and no third.

PrismrankError
├── BadMessage        this message is bad: dead letter, ack, go on
│   ├── Undecodable   its bytes are not what the wire says
│   ├── Invalid       a field is missing, of the wrong type or out of its range
│   └── TooLarge      a limit of the settings is exceeded
├── BadSetting        this process is misconfigured: it does not start
└── WorkerFault       this worker is bad: it exits, is restarted, and is given the message again
"""

from __future__ import annotations

from typing import Final

SHOWN_CHARACTERS: Final = 120
ABSENT: Final = object()


class PrismrankError(Exception):
    """The root: everything that this project raises on purpose."""


class BadMessage(PrismrankError):
    """One message is at fault. It goes to the dead letters, its offset is acked, work goes on."""

    stage: str = "decode"

    def __init__(
        self, path: str, expected: str, value: object = ABSENT, *, stage: str = ""
    ) -> None:
        self.path = path
        self.expected = expected
        self.value = "" if value is ABSENT else shown(value)
        self.stage = stage or type(self).stage
        found = f", got {self.value}" if self.value else ""
        super().__init__(f"{path}: expected {expected}{found}")


class Undecodable(BadMessage):
    """Not UTF-8, not JSON, or nested beyond reason: dead letter."""


class Invalid(BadMessage):
    """Well-formed, but a field breaks its rule: dead letter."""


class TooLarge(BadMessage):
    """A record or a list of candidates beyond the limit that the settings state: dead letter."""


class BadSetting(PrismrankError):
    """A setting cannot be used. Nothing was consumed; the process ends with status 2."""


class WorkerFault(PrismrankError):
    """This worker cannot go on. It exits; what it had not acked is delivered again."""


def shown(value: object) -> str:
    """`value` as an error message shows it: its repr, cut so that a log line stays a line."""
    try:
        text = repr(value[: SHOWN_CHARACTERS + 1] if isinstance(value, str | bytes) else value)
    except RecursionError:
        text = f"a {type(value).__name__} nested beyond reason"
    return text if len(text) <= SHOWN_CHARACTERS else text[:SHOWN_CHARACTERS] + "…"
