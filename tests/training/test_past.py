"""A shop's own past logs: a file comes in once, and says the same as what Kafka would have."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from training.impressions import LabelSettings, join_impressions
from training.logs import Logs
from training.past import Imported, import_past
from training.records import TABLES, Added
from training.shown import BadPast, PastSettings
from worker import codec

AT = datetime(2026, 3, 1, tzinfo=UTC)
COLUMNS = ("query_id", "user_query", "item_id", "position", "clicked")
ROWS = [
    ("q1", "red shoe", "b", 2, False),
    ("q1", "red shoe", "a", 1, True),
    ("q2", "hat", "c", 1, False),
]


@pytest.fixture
def logs(tmp_path: Path) -> Logs:
    return Logs(str(tmp_path / "logs"))


def written(folder: Path, rows: Sequence[Sequence[Any]] = (), **columns: list[Any]) -> Path:
    """A file of `rows` under COLUMNS, and more columns."""
    path = folder / "past.parquet"
    table = {name: [row[n] for row in rows or ROWS] for n, name in enumerate(COLUMNS)}
    pq.write_table(pa.table({**table, **columns}), path)
    return path


def added(**rows: int) -> dict[str, Added]:
    return {table: Added(rows=rows.get(table, 0)) for table in TABLES}


def test_a_file_becomes_searches_lists_and_behaviours_that_join(tmp_path: Path, logs: Logs) -> None:
    found = import_past(written(tmp_path), PastSettings(at=AT), logs)
    assert found == Imported(added(searches=2, lists=2, behaviours=1))
    now = logs.snapshot()
    joined = join_impressions(
        logs.searches(now), logs.lists(now), logs.behaviours(now), {}, LabelSettings()
    )
    shown = {one.query: [(p.item.item_id, p.position, p.clicked) for p in one.shown]
             for one in joined.lists}  # fmt: skip
    assert shown == {"red shoe": [("a", 1, True), ("b", 2, False)], "hat": [("c", 1, False)]}
    assert {(one.user, one.at) for one in joined.lists} == {("q1", AT), ("q2", AT)}


def test_a_list_says_that_no_model_made_it_and_has_the_digest_of_its_content(
    tmp_path: Path, logs: Logs
) -> None:
    import_past(written(tmp_path), PastSettings(at=AT), logs)
    for ranked in logs.lists(logs.snapshot()):
        assert (ranked.model, ranked.policy, ranked.degraded) == (None, "past", False)
        assert ranked.list_id == codec.list_id(ranked)
        assert all(item.shown_probability == 1.0 for item in ranked.items)


def test_a_file_comes_in_once_wherever_it_lies(tmp_path: Path, logs: Logs) -> None:
    path = written(tmp_path)
    import_past(path, PastSettings(at=AT), logs)
    moved = path.rename(tmp_path / "moved.parquet")
    assert import_past(moved, PastSettings(at=AT), logs) == Imported(added())
    pq.write_table(pa.table({"item_id": ["a"], "title": ["Shoe"]}), tmp_path / "items.parquet")
    more = PastSettings(at=AT, catalogue=str(tmp_path / "items.parquet"))
    assert import_past(moved, more, logs) == Imported(added(items=1))


def test_an_import_that_was_cut_off_goes_on(tmp_path: Path, logs: Logs) -> None:
    """Lists come after searches in a commit of their own: here it never came."""
    rows = [(f"q{n}", "shoe", f"i{place}", place, place == 2)
            for n in range(30) for place in (1, 2)]  # fmt: skip
    path, settings = written(tmp_path, rows), PastSettings(at=AT)
    cut = Logs(str(tmp_path / "cut"))

    class Cut(Exception):
        pass

    def stop(_: Imported) -> None:
        raise Cut

    with pytest.raises(Cut):
        import_past(path, settings, cut, stop, block=10)
    rest = import_past(path, settings, cut, block=7)
    assert rest == Imported(added(searches=20, lists=20, behaviours=20))
    import_past(path, settings, logs)
    here, there = logs.snapshot(), cut.snapshot()
    assert list(logs.searches(here)) == list(cut.searches(there))
    assert list(logs.lists(here)) == list(cut.lists(there))
    assert list(logs.behaviours(here)) == list(cut.behaviours(there))


def test_the_same_file_by_other_columns_is_refused(tmp_path: Path, logs: Logs) -> None:
    path = written(tmp_path)
    import_past(path, PastSettings(at=AT), logs)
    with pytest.raises(BadPast, match="other columns"):
        import_past(path, PastSettings(at=AT, actions={"clicked": "purchase"}), logs)
    assert logs.counts(logs.snapshot())["behaviours"] == Added(rows=1)


def test_users_times_actions_and_texts_come_from_the_columns_that_are_named(
    tmp_path: Path, logs: Logs
) -> None:
    times = [datetime(2026, 3, 1, hour) for hour in (9, 8, 7)]
    path = written(
        tmp_path, when=times, who=["u", "u", None], bought=[0, 2, None], name=["B", "A", None]
    )
    settings = PastSettings(
        timestamp="when",
        user_id="who",
        actions={"clicked": "click", "bought": "purchase"},
        item_columns={"name": "title"},
    )
    import_past(path, settings, logs)
    now = logs.snapshot()
    first, second = logs.searches(now)
    assert (first.user_id, first.client_id) == (None, "q2")
    assert first.timestamp == datetime(2026, 3, 1, 7, tzinfo=UTC)
    assert (second.user_id, second.client_id) == ("u", None)
    assert second.timestamp == datetime(2026, 3, 1, 8, tzinfo=UTC)
    assert [item.title for item in second.candidates] == ["A", "B"]
    assert [done.action_name for done in logs.behaviours(now)] == ["click", "purchase"]


def test_a_session_of_several_queries_becomes_several_lists(tmp_path: Path, logs: Logs) -> None:
    rows = [("s", "boot", "a", 0, True), ("s", "shoe", "b", 0, False), ("t", "shoe", "b", 0, True)]
    import_past(written(tmp_path, rows), PastSettings(at=AT, first_position=0), logs)
    found = [(one.query_id, one.user_query, one.client_id) for one in logs.lists(logs.snapshot())]
    assert found == [("s", "boot", "s"), ("s/2", "shoe", "s"), ("t", "shoe", "t")]


@pytest.mark.parametrize(
    ("positions", "first", "says"),
    [
        ((2, 1, 1), 0, "expected position 0, as `past.first_position` says, and the smallest is 1"),
        ((3, 2, 5), 1, "expected position 1, as `past.first_position` says, and the smallest is 2"),
    ],
    ids=["counted from 1, read from 0", "without the first place"],
)
def test_a_file_without_a_first_place_is_refused(
    tmp_path: Path, logs: Logs, positions: tuple[int, ...], first: int, says: str
) -> None:
    rows = [(*row[:3], place, row[4]) for row, place in zip(ROWS, positions, strict=True)]
    settings = PastSettings(at=AT, first_position=first)  # type: ignore[arg-type]
    with pytest.raises(BadPast, match=f"column position has no row at the top: {says}"):
        import_past(written(tmp_path, rows), settings, logs)
    assert logs.counts(logs.snapshot()) == added()
    import_past(written(tmp_path), PastSettings(at=AT), logs)


def test_rows_that_say_nothing_are_left_out_and_counted(tmp_path: Path, logs: Logs) -> None:
    rows = [
        ("q1", "shoe", "a", 1, True),
        ("q1", "shoe", "a", 2, True),  # the item again
        ("q1", "shoe", "b", 1, True),  # the place again
        ("q1", "shoe", "c", 0, True),  # above the top
        ("q1", "shoe", "", 3, True),
        (None, "shoe", "d", 4, True),
        ("q1", None, "e", 5, True),
        ("q1", "shoe", None, 6, True),
        ("q1", "shoe", "f", None, True),
        ("q9", "shoe", "", 1, False),  # a page of nothing
    ]
    found = import_past(written(tmp_path, rows), PastSettings(at=AT), logs)
    assert found == Imported(added(searches=1, lists=1, behaviours=1), left_out=9)
    again = import_past(tmp_path / "past.parquet", PastSettings(at=AT), logs)
    assert again == Imported(added(), left_out=9)


def test_the_catalogue_comes_in_and_what_kafka_says_of_an_item_wins(
    tmp_path: Path, logs: Logs
) -> None:
    pq.write_table(
        pa.table({"doc_id": [7, 8], "name": ["Shoe", None], "maker": [None, "Acme"]}),
        tmp_path / "items.parquet",
    )
    settings = PastSettings(
        at=AT,
        catalogue=str(tmp_path / "items.parquet"),
        catalogue_columns={"doc_id": "item_id", "name": "title", "maker": "brand"},
    )
    found = import_past(written(tmp_path), settings, logs)
    assert found.added["items"] == Added(rows=2)
    items = logs.items(logs.snapshot())
    assert {key: (item.title, item.brand) for key, item in items.items()} == {
        "7": ("Shoe", None),
        "8": (None, "Acme"),
    }


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (PastSettings(), "neither `timestamp` names a column, nor `at` a time"),
        (PastSettings(at=AT, position="rank"), "no column rank; it has query_id, user_query"),
        (PastSettings(at=AT, position="user_query"), "column user_query"),
        (PastSettings(timestamp="position"), "a number does not say since when"),
        (PastSettings(at=AT, item_columns={"position": "title"}), "item 'a': .*title"),
    ],
)
def test_a_file_that_does_not_fit_is_refused_by_name_and_comes_in_once_the_settings_fit(
    tmp_path: Path, logs: Logs, settings: PastSettings, message: str
) -> None:
    path = written(tmp_path)
    with pytest.raises(BadPast, match=message):
        import_past(path, settings, logs)
    assert import_past(path, PastSettings(at=AT), logs).added["lists"] == Added(rows=2)


def test_a_file_that_is_not_there_is_named(tmp_path: Path, logs: Logs) -> None:
    with pytest.raises(BadPast, match=r"nowhere\.parquet: No such file"):
        import_past(tmp_path / "nowhere.parquet", PastSettings(at=AT), logs)
    missing = PastSettings(at=AT, catalogue=str(tmp_path / "none.parquet"))
    with pytest.raises(BadPast, match=r"none\.parquet: No such file"):
        import_past(written(tmp_path), missing, logs)


def test_real_sessions_come_in_with_their_products(data: Path, tmp_path: Path, logs: Logs) -> None:
    """The first 20 sessions of retrotech: every impression and every click is there again."""
    table = pq.read_table(data / "retrotech" / "sessions.parquet").slice(0, 20 * 30)
    path = tmp_path / "sessions.parquet"
    pq.write_table(table, path)
    settings = PastSettings(
        query_id="sess_id", user_query="query", item_id="doc_id", position="rank",
        first_position=0, at=AT,
    )  # fmt: skip
    found = import_past(path, settings, logs)
    shown = sum(len(one.items) for one in logs.lists(logs.snapshot()))
    assert shown + found.left_out == table.num_rows
    clicks = sum(table["clicked"].to_pylist())
    assert found.added["behaviours"].rows == clicks
