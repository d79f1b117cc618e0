"""Whether the lists of a trial were clicked: one list a user, for it is users that arms are drawn
of. A list may be clicked for a while; then what became of it is told, once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from worker.ranking.cache import Bounded

Arm: TypeAlias = Literal["champion", "challenger"]
WAIT_SECONDS: Final = 600.0  # from a list to its last click that counts
MOST_USERS: Final = 100_000  # that are remembered; who is forgotten counts anew


@dataclass(slots=True)
class Open:
    """A list that may still be clicked."""

    arm: Arm
    since: float  # seconds
    clicked: bool = False


class Outcomes:
    """The first list of each user. Times are seconds on one clock, and do not fall."""

    def __init__(self) -> None:
        self._users: Bounded[str, None] = Bounded(MOST_USERS)
        self._open: dict[str, Open] = {}  # by query_id, oldest first

    def first(self, user: str) -> bool:
        """Whether this is the user's first list, which is the one that counts."""
        if user in self._users:
            return False
        self._users[user] = None
        return True

    def listed(self, query_id: str, arm: Arm, now: float) -> None:
        """A user's first list was made; it may be clicked from now on."""
        self._open.setdefault(query_id, Open(arm, now))

    def clicked(self, query_id: str) -> None:
        """One of its items was clicked; that it is told again changes nothing."""
        if query_id in self._open:
            self._open[query_id].clicked = True

    def closed(self, now: float) -> Iterator[tuple[Arm, bool]]:
        """(arm, clicked) of every list whose time is over since this was last asked."""
        while self._open:
            query_id, oldest = next(iter(self._open.items()))
            if now - oldest.since < WAIT_SECONDS:
                return
            del self._open[query_id]
            yield oldest.arm, oldest.clicked
