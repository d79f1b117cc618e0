"""What is watched while a challenger is tried, and the sentence that says why it was taken back.

Seven guards, and two more where a drift is watched, each a bet (`sequential`) that the challenger
is worse than the champion by more than it may be. Two streams become one of differences by pairing
each of the challenger's with the newest of the champion's that has no partner yet (so do Johari,
Koomen, Pekelis & Walsh, Always valid inference, Operations Research 2022, with the two streams of
an A/B test). The guards share ALPHA (Bonferroni), so a challenger that is no worse is ever taken
back with a chance of ALPHA at most.
No clock, no chance, no I/O.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from worker.events import RankedList
from worker.policies import Group
from worker.ranking.join import JoinedSearch
from worker.ranking.limits import groups_of
from worker.scoring.outcomes import Arm
from worker.scoring.sequential import Bet

ALPHA: Final = 0.05
PLACES: Final = 10  # from the top of a list, that are compared
SLOWER: Final = 1.3  # the longest that a challenger may take, in the champion's times
FAILING: Final = 0.01  # share of lists that may fail beyond the champion's
ALIKE: Final = 0.2  # least agreement of the first places, from 0 (by chance) to 1 (the same items)
KEPT: Final = 0.8  # of the champion's share of places, that a group must keep
FASTEST: Final = math.log(16.0)  # a ratio of times beyond this, or its inverse, counts as this
UNPAIRED: Final = 64  # of one stratum that wait for a partner; older ones are forgotten


@dataclass(frozen=True, slots=True)
class Verdict:
    """Why a challenger must go."""

    guard: str
    sentence: str


@dataclass(slots=True)
class Guard:
    """A bet, and the means that its sentence tells."""

    bet: Bet
    tell: Callable[[float, float], str]  # of the challenger's mean and the champion's
    count: int = 0
    ours: float = 0.0  # the challenger's, summed
    theirs: float = 0.0  # the champion's

    def see(self, ours: float, theirs: float, worse: float) -> None:
        """One comparison, and how much worse the challenger was in it, as the bet has it."""
        self.bet.see(worse)
        self.count += 1
        self.ours, self.theirs = self.ours + ours, self.theirs + theirs

    def sentence(self) -> str:
        """The means in words, and of how many comparisons."""
        said = self.tell(self.ours / self.count, self.theirs / self.count)
        return f"{said}, over {self.count} comparisons"


class Pairs:
    """Partners of two streams, one from each, within a stratum."""

    def __init__(self) -> None:
        self._waiting: dict[tuple[Arm, Hashable], deque[float]] = {}

    def pair(self, arm: Arm, value: float, stratum: Hashable = None) -> tuple[float, float] | None:
        """(the challenger's, the champion's); None where `value` waits for a partner now."""
        other: Arm = "champion" if arm == "challenger" else "challenger"
        if partners := self._waiting.get((other, stratum)):
            partner = partners.pop()
            return (value, partner) if arm == "challenger" else (partner, value)
        waiting = self._waiting.setdefault((arm, stratum), deque(maxlen=UNPAIRED))
        waiting.append(value)
        return None


class Watch:
    """The guards of one trial."""

    def __init__(self, digest: str, group: Group | None = None, drift: float = 1.0) -> None:
        """`drift` is the most that the mean relevance of the first places may move; 1: any."""
        self._digest, self._group = digest, group
        self._times, self._failures, self._clicks = Pairs(), Pairs(), Pairs()
        self._guards = _guards(group, drift)

    def timed(self, arm: Arm, searches: int, texts: int, seconds: float) -> None:
        """A micro-batch of so many searches that read so many new texts.

        Only batches of about equal work are compared: an arm with fewer users has read fewer items
        before, and a long batch would be taken for a slow model.
        """
        if texts and seconds > 0.0:
            stratum = _size(searches), _size(texts)
            if found := self._times.pair(arm, math.log(seconds), stratum):
                self._guards["slow"].see(*found, found[0] - found[1])

    def probed(self, ours: float, theirs: float) -> None:
        """Seconds that both took to read the same."""
        mine, champions = math.log(ours), math.log(theirs)
        self._guards["slow_silent"].see(mine, champions, mine - champions)

    def answered(self, arm: Arm, failed: bool) -> None:
        """A user's list was made in time, or was not."""
        if found := self._failures.pair(arm, float(failed)):
            self._guards["failing"].see(*found, found[0] - found[1])

    def silent(self, failed: bool) -> None:
        """The challenger could score what the champion had scored, or could not."""
        self._guards["failing_silent"].see(float(failed), 0.0, float(failed))

    def compared(self, ours: RankedList, theirs: RankedList, search: JoinedSearch) -> None:
        """The two lists of one search."""
        same, chance, places = agreement(ours, theirs, len(search.entries))
        if chance < places:
            alike = (same - chance) / (places - chance)
            self._guards["unlike"].see(same / places, chance / places, -alike)
        if self._group is not None:
            items = [entry.item for entry in search.entries]
            named = groups_of(self._group, items)
            members = {i.item_id for i, one in zip(items, named, strict=True) if one is not None}
            if members:
                mine, champions = _share(ours, members), _share(theirs, members)
                self._guards["unfair"].see(mine, champions, KEPT * champions - mine)
        if "drifted_up" in self._guards:
            self._drifted(_relevance(ours), _relevance(theirs))

    def _drifted(self, ours: float | None, theirs: float | None) -> None:
        """The mean relevance of the first places of both; None where a list tells none."""
        if ours is not None and theirs is not None:
            self._guards["drifted_up"].see(ours, theirs, ours - theirs)
            self._guards["drifted_down"].see(ours, theirs, theirs - ours)

    def clicked(self, arm: Arm, clicked: bool) -> None:
        """What became of a user's list."""
        if found := self._clicks.pair(arm, float(clicked)):
            self._guards["unclicked"].see(*found, found[1] - found[0])

    def verdict(self) -> Verdict | None:
        """Why the challenger must go, in one line for people; None while nothing speaks for it."""
        for name, guard in self._guards.items():
            if guard.bet.won(ALPHA / len(self._guards)):
                begin = f"challenger {self._digest[:8]} was taken back"
                return Verdict(name, f"{begin}: {guard.sentence()}")
        return None


def _guards(group: Group | None, drift: float) -> Mapping[str, Guard]:
    """By name, in the order in which they are asked."""
    name = f"{group.field}={group.value}" if group else ""

    def told(ours: float, theirs: float) -> str:
        places = f"{name} has {ours:.0%} of the first {PLACES} places"
        return f"{places}, where the champion gives it {theirs:.0%}"

    guards = {
        "slow": Guard(Bet(math.log(SLOWER), -FASTEST, FASTEST), _slow),
        "slow_silent": Guard(Bet(math.log(SLOWER), -FASTEST, FASTEST), _slow),
        "failing": Guard(Bet(FAILING, -1.0, 1.0), _failing),
        "failing_silent": Guard(Bet(FAILING, -1.0, 1.0), _failing_silent),
        "unlike": Guard(Bet(-ALIKE, -1.0, 1.0), _unlike),
        "unclicked": Guard(Bet(0.0, -1.0, 1.0), _unclicked),
        "unfair": Guard(Bet(0.0, -1.0, 1.0), told),
    }
    if drift < 1.0:
        guards["drifted_up"] = Guard(Bet(drift, -1.0, 1.0), _drift)
        guards["drifted_down"] = Guard(Bet(drift, -1.0, 1.0), _drift)
    return guards


def agreement(ours: RankedList, theirs: RankedList, candidates: int) -> tuple[int, float, int]:
    """(how many of the first places hold the same items, how many would by chance, the places)."""
    first, second = _top(ours), _top(theirs)
    places = min(len(first), len(second))
    chance = len(first) * len(second) / max(candidates, 1)
    return len(set(first) & set(second)), chance, places


def _top(ranked: RankedList) -> Sequence[str]:
    return [item.item_id for item in ranked.items[:PLACES]]


def _relevance(ranked: RankedList) -> float | None:
    """The mean relevance of the first places; None where some of them has none."""
    told = [item.relevance for item in ranked.items[:PLACES] if item.relevance is not None]
    whole = 0 < len(told) == len(_top(ranked))
    return sum(told) / len(told) if whole else None


def _share(ranked: RankedList, members: set[str]) -> float:
    top = _top(ranked)
    return sum(item_id in members for item_id in top) / max(len(top), 1)


def _size(count: int) -> int:
    """Equal for counts that differ by less than a fifth from their middle."""
    return round(2.0 * math.log2(1.0 + count))


def _slow(ours: float, theirs: float) -> str:
    times, mine, champions = math.exp(ours - theirs), 1e3 * math.exp(ours), 1e3 * math.exp(theirs)
    return (
        f"its lists took {times:.1f} times as long to score ({mine:.3g} ms, where the champion"
        f" takes {champions:.3g} ms for as much)"
    )


def _failing(ours: float, theirs: float) -> str:
    return f"{ours:.1%} of its lists failed or came too late (the champion's: {theirs:.1%})"


def _failing_silent(ours: float, _theirs: float) -> str:
    return f"it could not score {ours:.1%} of what the champion had scored"


def _unlike(ours: float, chance: float) -> str:
    return (
        f"its lists have little to do with the champion's: {ours:.0%} of their first places hold"
        f" the same items, and {chance:.0%} would by chance"
    )


def _unclicked(ours: float, theirs: float) -> str:
    return f"{ours:.1%} of its lists were clicked (the champion's: {theirs:.1%})"


def _drift(ours: float, theirs: float) -> str:
    return (
        f"it finds the first {PLACES} places relevant with a chance of {ours:.0%}, where the"
        f" champion says {theirs:.0%}"
    )
