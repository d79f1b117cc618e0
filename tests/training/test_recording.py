"""What is simulated can be read again, from files and from the log tables, each thing once."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest

from tests.training.test_simulate import QUERIES, by_overlap, place, plain, served
from training.logs import Logs
from training.recording import visits_in, write_jsonl, write_logs
from training.simulate import Served, SimulateSettings, simulate
from training.visitors import Graded
from worker import codec
from worker.events import Behaviour


def logged(logs: Logs, chosen: SimulateSettings, first: int = 0) -> dict[str, int]:
    """A round into the log tables; how many rows each got."""
    source = Graded(QUERIES, chosen)
    visits = simulate(source, by_overlap(source), chosen, first)
    added = write_logs(visits, source.catalogue, logs, first, chosen.start)
    assert not any(each.errors for each in added.values())
    return {table: each.rows for table, each in added.items()}


def moment(behaviour: Behaviour) -> tuple[datetime, str, int]:
    """When, and of equal times what was done where."""
    assert behaviour.timestamp is not None
    return behaviour.timestamp, behaviour.action_name, place(behaviour)


def test_the_files_hold_what_happened_line_by_line(tmp_path: Path) -> None:
    chosen = plain(visits=40)
    source = Graded(QUERIES, chosen)
    counts = write_jsonl(simulate(source, by_overlap(source), chosen), source.catalogue, tmp_path)
    limits, found = codec.Limits(), served(chosen)
    lines = {name: (tmp_path / f"{name}.jsonl").read_bytes().splitlines() for name in counts}
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(f"{n}.jsonl" for n in counts)
    assert counts == {name: len(each) for name, each in lines.items()}
    assert [codec.decode_search_event(line, limits) for line in lines["searches"]] == [
        one.search for one in found
    ]
    assert [codec.decode_ranked_list(line, limits) for line in lines["lists"]] == [
        one.ranked for one in found
    ]
    assert [codec.decode_behaviour(line, limits) for line in lines["behaviours"]] == [
        behaviour for one in found for behaviour in one.behaviours
    ]
    assert {codec.decode_item(line, limits).item_id for line in lines["items"]} == set(
        source.catalogue
    )


def test_a_round_that_breaks_leaves_the_files_of_the_one_before(tmp_path: Path) -> None:
    chosen = plain(visits=20)
    source = Graded(QUERIES, chosen)
    write_jsonl(simulate(source, by_overlap(source), chosen), source.catalogue, tmp_path)
    before = {path.name: hashlib.sha256(path.read_bytes()).digest() for path in tmp_path.iterdir()}

    def breaking() -> Iterator[Served]:
        yield from served(chosen)[:3]
        raise OSError("the disk is full")

    with pytest.raises(OSError, match="full"):
        write_jsonl(breaking(), source.catalogue, tmp_path)
    after = {path.name: hashlib.sha256(path.read_bytes()).digest() for path in tmp_path.iterdir()}
    assert after == before


def test_the_log_tables_hold_what_happened(tmp_path: Path) -> None:
    logs, chosen = Logs(str(tmp_path)), plain(visits=40)
    logged(logs, chosen)
    found, snapshot = served(chosen), logs.snapshot()
    assert list(logs.searches(snapshot)) == [one.search for one in found]
    assert list(logs.lists(snapshot)) == [one.ranked for one in found]
    done = [behaviour for one in found for behaviour in one.behaviours]
    assert sorted(logs.behaviours(snapshot), key=moment) == sorted(done, key=moment)
    assert logs.items(snapshot) == Graded(QUERIES, chosen).catalogue


def test_a_round_that_is_logged_twice_adds_nothing_the_second_time(tmp_path: Path) -> None:
    logs, chosen = Logs(str(tmp_path)), plain(visits=30)
    assert logged(logs, chosen)["lists"] == 30
    assert logged(logs, chosen) == {"searches": 0, "lists": 0, "behaviours": 0, "items": 0}


def test_a_round_that_was_killed_is_completed_and_the_next_one_follows(tmp_path: Path) -> None:
    logs, chosen = Logs(str(tmp_path)), plain(visits=30)
    logged(logs, plain(visits=12))
    assert visits_in(logs) == 12
    assert logged(logs, chosen)["searches"] == 18
    assert visits_in(logs) == 30
    logged(logs, chosen, first=30)
    searches = [one.search for one in served(plain(visits=60))]
    assert list(logs.searches(logs.snapshot())) == searches


def test_empty_logs_begin_with_visit_zero(tmp_path: Path) -> None:
    assert visits_in(Logs(str(tmp_path))) == 0
