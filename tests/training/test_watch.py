"""The loop's look at the log tables: which lists it compares, and what it says of them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from deltalake import DeltaTable
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.training.conftest import Made, begin
from tests.training.log_rows import NOON, append, record, search
from tests.training.pages import place, ranked
from tests.training.test_rounds import outcome
from training import reading
from training.drift import DriftSettings, Windows
from training.logs import Logs
from training.reading import Snapshot
from training.service import pin
from training.telemetry import Telemetry
from training.watch import Watch, windows
from training.windows import Window
from worker import codec
from worker.events import Behaviour, EventAttributes, ObjectRef, RankedList

LATE = datetime(2027, 1, 1, tzinfo=UTC)
DRIFT = DriftSettings(lists=200, least_lists=100, click_minutes=30.0, places=3)


def listed(number: int, query: str = "shoes", **fields: object) -> RankedList:
    """The list `l-number` of four places, a minute after the one before."""
    items = [place(one, rank, category="boot") for rank, one in enumerate("abcd", start=1)]
    known: dict[str, object] = {"user_id": f"u{number % 50}", "user_query": query}
    known |= {"timestamp": NOON + timedelta(minutes=number)}
    return ranked(number, items, **{**known, **fields})


def add(made: Made, lists: Sequence[RankedList]) -> None:
    """More rows of the lists' table."""
    logs = made.config.logs.open()
    first = logs.offsets("lists", "ranked-lists").get(0, 0)
    rows = [
        record(n, codec.encode(one), topic="ranked-lists") for n, one in enumerate(lists, first)
    ]
    append(logs, rows, "lists")


def click(number: int, item_id: str, after: float, named: bool = True) -> Behaviour:
    """A click on the list `l-number`, so many minutes after it."""
    about = EventAttributes(
        object=ObjectRef(object_id=item_id), list_id=f"l-{number}" if named else None
    )
    at = NOON + timedelta(minutes=number + after)
    fields = {"query_id": f"q-{number}", "user_id": "u", "timestamp": at}
    return Behaviour(action_name="click", event_attributes=about, **fields)  # type: ignore[arg-type]


@pytest.fixture
def made(tmp_path: Path) -> Made:
    """A folder in which a round is said to have ended, over 400 lists."""
    made = begin(tmp_path, tmp_path, lambda one: msgspec.structs.replace(one, drift=DRIFT))
    add(made, [listed(n) for n in range(400)])
    made.round(1).begin(lambda: pin(made.config, 1, made.registry))
    made.round(1).end(outcome(1))
    return made


def numbers(lists: Window) -> list[int]:
    return [int(one.query.split()[-1]) for one in lists]


def test_the_newest_before_the_round_and_the_newest_since_are_compared(tmp_path: Path) -> None:
    made = begin(tmp_path, tmp_path, lambda one: msgspec.structs.replace(one, drift=DRIFT))
    add(made, [listed(n, f"shoes {n}") for n in range(500)])
    snapshot = made.config.logs.open().snapshot()
    add(made, [listed(n, f"shoes {n}") for n in range(500, 1_031)])
    found = windows(made.config, snapshot, LATE)
    assert numbers(found.known) == list(range(100, 300))
    assert numbers(found.before) == list(range(300, 500))
    assert numbers(found.first) == list(range(500, 700))
    assert numbers(found.now) == list(range(800, 1_000)), "of younger ones the clicks are to come"
    soon = windows(made.config, snapshot, NOON + timedelta(minutes=900.5))
    assert numbers(soon.now) == list(range(670, 870)), "a list of tomorrow ages nothing"


def test_a_click_counts_for_its_list_and_not_for_ever(made: Made) -> None:
    snapshot = made.config.logs.open().snapshot()
    add(made, [listed(n) for n in range(400, 640)])
    add(made, [listed(500)])  # sent twice
    done = [
        click(500, "a", 1), click(500, "a", 2), click(501, "b", 30), click(502, "a", 31),
        click(503, "c", 1, named=False), click(504, "d", 1), click(505, "z", 1), click(300, "a", 1),
        click(506, "a", -1), click(9_999, "a", 1),
    ]  # fmt: skip
    rows = [record(n, codec.encode(one), topic="behaviour-events") for n, one in enumerate(done)]
    append(made.config.logs.open(), rows, "behaviours")
    found = windows(made.config, snapshot, LATE)
    clicked = {
        (name, number): one.clicked
        for name, start in (("before", 200), ("now", 410))
        for number, one in enumerate(getattr(found, name), start)
        if any(one.clicked)
    }
    assert clicked == {
        ("before", 300): (True, False, False),
        ("now", 500): (True, False, False),
        ("now", 501): (False, True, False),
        ("now", 503): (False, False, True),
    }


def value(telemetry: Telemetry, name: str, of: str) -> float | None:
    return telemetry.registry.get_sample_value(f"prismrank_training_{name}", {"of": of})


@pytest.mark.parametrize("starts", [True, False])
def test_a_drift_is_measured_and_begins_a_round_where_it_is_to(made: Made, starts: bool) -> None:
    drift = msgspec.structs.replace(DRIFT, starts_round=starts)
    config, telemetry = msgspec.structs.replace(made.config, drift=drift), Telemetry()
    watch, last = Watch(config, telemetry), made.round(1).outcome()
    assert last is not None
    assert watch(last, LATE) is None
    add(made, [listed(n, "shoes" if n % 3 else f"boots {n}") for n in range(400, 700)])
    assert watch(last, LATE + timedelta(seconds=899)) is None, "it has just looked"
    why = watch(last, LATE + timedelta(seconds=900))
    assert value(telemetry, "drift_called", "queries") == 1
    assert value(telemetry, "drift", "queries") == pytest.approx(1 / 3, abs=0.01)
    assert value(telemetry, "drift_called", "categories") == 0
    assert value(telemetry, "drift", "categories") == 0
    if not starts:
        assert why is None
    else:
        assert why is not None
        said, *_ = why.split("; ")
        assert said.startswith("queries changed: 33")
        assert said.endswith(
            "of the last 200 searches were never asked before (0.0 % in the round's own data)"
        )


def test_a_round_whose_data_are_gone_has_nothing_to_be_compared_with(made: Made) -> None:
    nothing = Windows(known=(), before=(), first=(), now=())
    assert windows(made.config, Snapshot(lists=99), LATE) == nothing
    assert windows(made.config, Snapshot(), LATE) == nothing
    telemetry, last = Telemetry(), made.round(1).outcome()
    assert last is not None
    assert Watch(made.config, telemetry)(last, LATE) is None
    assert str(value(telemetry, "drift", "scores")) == "nan"


@settings(max_examples=10, deadline=None)
@given(
    seconds=st.lists(st.integers(0, 600), min_size=1, max_size=30),
    count=st.integers(1, 40),
    newest=st.booleans(),
)
def test_the_outermost_rows_are_whole_minutes_and_never_too_many(
    seconds: list[int], count: int, newest: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    logs = Logs(str(tmp_path_factory.mktemp("logs")))
    times = [NOON + timedelta(seconds=each) for each in seconds]
    append(logs, [search(n, timestamp=at) for n, at in enumerate(times)])
    dataset = DeltaTable(f"{logs.url}/searches").to_pyarrow_dataset()
    rows = reading.outermost(dataset, reading.between(), ["at"], count, newest=newest)
    found = sorted((row["at"] for row in rows), reverse=newest)
    assert 1 <= len(found) <= count

    def minute(at: datetime) -> datetime:
        return at.replace(second=0, microsecond=0)

    whole = sorted(times, reverse=newest)
    if sum(minute(at) == minute(whole[0]) for at in times) <= count:
        assert found == whole[: len(found)]
        left = whole[len(found) :]
        if left:
            assert minute(left[0]) != minute(found[-1])
            assert len(found) + sum(minute(at) == minute(left[0]) for at in times) > count
    else:
        assert {minute(at) for at in found} == {minute(whole[0])}
        assert len(found) == count
