"""Which searches the demo plays, and in what order: pure numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

DIALS: Final = (0.0, 0.1, 0.3, 0.5, 0.7)
ENOUGH: Final = 100  # events from which a round of learning is played unasked
FIRST: Final = 100_000  # the first need; the simulated visits come before it, and never get there
WHILE_LEARNING: Final = 10  # one event in so many is kept for the swap


@dataclass(frozen=True, slots=True)
class Script:
    """How many searches come before the round of learning, while the model is swapped, and after.

    Those after repeat those before, so that the two halves compare need by need.
    """

    before: int
    during: int = 0
    after: int = 0

    @property
    def events(self) -> int:
        return self.before + self.during + self.after

    def search(self, n: int) -> tuple[int, float]:
        """(number of the visit, dial) of the n-th search: each need is asked at every dial."""
        again = n - self.before - self.during
        number, turn = divmod(again if again >= 0 else n, len(DIALS))
        return FIRST + number, DIALS[turn]

    def pairs(self) -> list[tuple[int, int]]:
        """(before, after): the numbers of the searches that ask for the same."""
        return [(n, n + self.before + self.during) for n in range(self.after)]


def script(events: int, learns: bool) -> Script:
    """`events` searches, all told.

    >>> script(240, learns=True)
    Script(before=108, during=24, after=108)
    >>> script(60, learns=False)
    Script(before=60, during=0, after=0)
    """
    if not learns:
        return Script(events)
    during = events // WHILE_LEARNING
    after = (events - during) // 2
    return Script(events - during - after, during, after)
