"""Validation: every fault, with its file, line, path, value and expectation."""

from __future__ import annotations

from pathlib import Path

import pytest

from worker import codec
from worker.errors import BadSetting
from worker.validate import faults, notes, unknown_policies

FAULTS = [
    ("a good event", '{"query_id":"q","user_query":""}', []),
    ("a good item", '{"item_id":"a","title":"Shoe"}', []),
    ("a good rule", '{"rule_id":"r","action":"block","item_ids":["a"]}', []),
    ("a good behaviour", '{"action_name":"click"}', []),
    ("not JSON", "query", ["$"]),
    ("nothing that is known", '{"colour":"blue"}', ["$"]),
    (
        "two faults of an event",
        '{"query_id":"q","user_query":"","k":0,"diversity":2}',
        ["$.k", "$.diversity"],
    ),
    (
        "a fault of each candidate",
        '{"query_id":"q","user_query":"","candidates":[{"item_id":"a","price":"9"},{},{"item_id":"b"}]}',
        ["$.candidates[0].price", "$.candidates[1].item_id"],
    ),
    (
        "a rule that cannot be applied",
        '{"rule_id":"r","action":"boost","item_ids":["a"]}',
        ["$.factor"],
    ),
    ("a policy of a method that is not there", '{"policy_id":"p","method":"x"}', ["$.method"]),
    (
        "candidates that are no list",
        '{"query_id":"q","user_query":"x","candidates":{"a":1}}',
        ["$.candidates"],
    ),
    (
        "faults at different depths",
        '{"query_id":"q","user_query":"x","history":[{"item_id":1}],"experiment":{"arm":3}}',
        ["$.history[0].item_id", "$.experiment.arm"],
    ),
    ("a price in words", '{"item_id":"a","price":"9"}', ["$.price"]),
]


@pytest.mark.parametrize(("line", "paths"), [f[1:] for f in FAULTS], ids=[f[0] for f in FAULTS])
def test_faults_of_a_line(tmp_path: Path, line: str, paths: list[str]) -> None:
    file = tmp_path / "lines.jsonl"
    file.write_text('{"item_id":"fine"}\n' + line + "\n")
    found = list(faults(file, codec.Limits()))
    assert [fault.path for fault in found] == paths
    assert {fault.line for fault in found} <= {2}


def test_a_fault_reads_as_a_sentence(tmp_path: Path) -> None:
    file = tmp_path / "events.jsonl"
    file.write_text('{"query_id":"q","user_query":"","diversity":2}')
    (fault,) = faults(file, codec.Limits())
    assert str(fault) == f"{file}:1: $.diversity: expected `float` <= 1.0, got 2"


def test_a_typo_within_a_limit_is_noted(tmp_path: Path) -> None:
    file = tmp_path / "policies.jsonl"
    limit = '{"limit_id":"one","field":"brand","at_most":1,"plces":3}'
    file.write_text('{"policy_id":"p","limits":[' + limit + "]}")
    assert list(faults(file, codec.Limits())) == []
    (note,) = notes(file)
    assert note == f"{file}:1: plces is no field of ListLimit; was places meant?"


def test_a_typo_within_an_auction_or_a_tail_is_noted(tmp_path: Path) -> None:
    file = tmp_path / "policies.jsonl"
    tail = '{"field":"brand","value":"a","rank":1,"probability":0.1,"rnk":2}'
    file.write_text('{"policy_id":"p","ads":{"slots":[1],"slts":[2]},"tail":' + tail + "}")
    assert [note.partition(": ")[2] for note in notes(file)] == [
        "slts is no field of Ads; was slots meant?",
        "rnk is no field of Tail; was rank meant?",
    ]


def test_a_typo_in_a_fields_name_is_noted_though_it_is_no_fault(tmp_path: Path) -> None:
    file = tmp_path / "events.jsonl"
    file.write_text(
        '{"query_id":"q","user_query":"x","canddates":[],"candidates":[{"item_id":"a","titel":"T"}]}'
    )
    assert list(faults(file, codec.Limits())) == []
    assert [note.partition(": ")[2] for note in notes(file)] == [
        "canddates is no field of SearchEvent; was candidates meant?",
        "titel is no field of Candidate; was title meant?",
    ]


def test_faults_of_settings(tmp_path: Path) -> None:
    file = tmp_path / "worker.env"
    file.write_text(
        "# the worker\nPRISMRANK_KAFKA=kafka:9092\nPRISMRANK_DIVERSITY=much\nPRISMRANK_COLOUR=red\n"
    )
    assert [(fault.line, fault.path) for fault in faults(file, codec.Limits())] == [
        (3, "PRISMRANK_DIVERSITY"),
        (4, "PRISMRANK_COLOUR"),
    ]


def test_a_file_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(BadSetting, match="No such file"):
        list(faults(tmp_path / "nothing.jsonl", codec.Limits()))


def test_an_event_whose_policy_is_in_none_of_the_files_is_noted_where_one_has_any(
    tmp_path: Path,
) -> None:
    events, policies = tmp_path / "events.jsonl", tmp_path / "policies.jsonl"
    candidates = '"user_query": "q", "candidates": [{"item_id": "a"}]'
    lines = [
        f'{{"query_id": "{name}", "policy": "{name}", {candidates}}}' for name in ("fair", "fiar")
    ]
    events.write_text("\n".join([*lines, f'{{"query_id": "none", {candidates}}}']) + "\n")
    policies.write_text('{"policy_id": "fair", "diversity": 0.2}\n')
    assert list(unknown_policies([events, policies])) == [
        f"{events}:2: policy 'fiar' is in none of these files; was fair meant?"
    ]
    assert list(unknown_policies([events])) == []
