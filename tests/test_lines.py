"""Lines in, lists out: in order, every one of them."""

from __future__ import annotations

import base64
import functools
import io
import json
import os
import threading
from collections.abc import Sequence
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.factories import random_search
from worker import codec
from worker.events import RankedList
from worker.lines import Lines, blocks
from worker.ranking.join import Dials, JoinedSearch, Tables
from worker.ranking.rerank import rerank
from worker.scoring.overlap import Overlap

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)


def lines(
    source: bytes, **fields: object
) -> tuple[list[dict[str, object]], list[dict[str, object]]]:
    """What the lines of `source` give: lists and dead letters."""
    found = [[json.loads(line) for line in each.splitlines()] for each in written(source, **fields)]
    return found[0], found[1]


def written(source: bytes, **fields: object) -> tuple[bytes, bytes]:
    """The bytes of both streams."""
    chosen = {
        "rank": functools.partial(rerank, model=Overlap()),
        "tables": Tables(),
        "dials": Dials(),
        "limits": codec.Limits(),
        "batch_events": 4,
        "now": lambda: NOON,
        **fields,
    }
    lists, dead = io.BytesIO(), io.BytesIO()
    read_end, write_end = os.pipe()

    def write() -> None:
        with os.fdopen(write_end, "wb") as pipe:
            pipe.write(source)

    writing = threading.Thread(target=write)
    writing.start()
    count = Lines(**chosen).run(read_end, lists, dead)  # type: ignore[arg-type]
    writing.join()
    os.close(read_end)
    assert count == len(dead.getvalue().splitlines())
    return lists.getvalue(), dead.getvalue()


GOOD = [codec.encode(random_search(seed, 6, query_id=f"q{seed}")) for seed in range(9)]


def test_lists_come_in_the_order_of_the_lines() -> None:
    lists, dead = lines(b"\n".join(GOOD) + b"\n")
    assert [one["query_id"] for one in lists] == [f"q{seed}" for seed in range(9)]
    assert dead == []


def test_explained_lists_are_text_and_bad_lines_stay_dead_letters() -> None:
    text, dead = written(GOOD[0] + b"\n{}\n" + GOOD[1], explain=True)
    told = text.decode().split("\n\n")
    assert [one.split()[0] for one in told if one.strip()] == ["q0", "q1"]
    assert "relevance 0." in told[0]
    assert json.loads(dead)["line"] == 2


def test_a_last_line_without_an_end_is_a_line() -> None:
    lists, _ = lines(GOOD[0] + b"\n" + GOOD[1])
    assert len(lists) == 2


def test_a_bad_line_is_a_dead_letter_with_its_number_and_the_rest_goes_on() -> None:
    bad = b'{"query_id":"q","user_query":"x","k":0}'
    lists, dead = lines(b"\n".join([GOOD[0], bad, GOOD[1], b"\xff"]))
    assert [one["query_id"] for one in lists] == ["q0", "q1"]
    assert [(one["line"], one["class"], one["path"], one["stage"]) for one in dead] == [
        (2, "Invalid", "$.k", "decode"),
        (4, "Undecodable", "$", "decode"),
    ]
    assert dead[0]["message"] == "$.k: expected `int` >= 1, got 0"
    assert base64.b64decode(str(dead[0]["raw_base64"])) == bad


@given(st.lists(st.sampled_from([*GOOD, b"", b"{}", b"\xff\xfe", b"[" * 5_000]), max_size=12))
def test_every_line_is_a_list_or_a_dead_letter(given_lines: list[bytes]) -> None:
    lists, dead = lines(b"".join(line + b"\n" for line in given_lines))
    assert len(lists) + len(dead) == len(given_lines)


def test_a_list_that_cannot_be_made_takes_no_other_along() -> None:
    def fails_on_q1(searches: Sequence[JoinedSearch]) -> tuple[RankedList, ...]:
        if any(search.event.query_id == "q1" for search in searches):
            raise KeyError("a bug")
        return rerank(searches, Overlap())

    lists, dead = lines(b"\n".join(GOOD), rank=fails_on_q1)
    assert len(lists) == 8
    assert [(one["line"], one["class"]) for one in dead] == [(2, "Unexpected")]


def test_the_flag_goes_before_the_events_own_dial() -> None:
    raw = codec.encode(random_search(1, 6, diversity=0.9))
    lists, _ = lines(raw, diversity=0.2)
    assert lists[0]["diversity"] == 0.2


@pytest.mark.parametrize("sizes", [(1, 2, 3), (5_000_000,)])
def test_blocks_put_lines_together_that_arrive_in_pieces(sizes: Sequence[int]) -> None:
    read_end, write_end = os.pipe()
    text = b"\n".join(b"x" * size for size in sizes)

    def write() -> None:
        with os.fdopen(write_end, "wb") as pipe:
            pipe.write(text)

    writing = threading.Thread(target=write)
    writing.start()
    found = [line for block in blocks(read_end) for line in block]
    writing.join()
    os.close(read_end)
    assert [len(line) for line in found] == list(sizes)
