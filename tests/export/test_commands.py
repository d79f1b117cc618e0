"""The command line: what it prints, what it leaves, and how it fails."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from export import bundle
from export.__main__ import main
from tests.export.models import save_sealed


def run(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str, str]:
    """One command: its status, and the lines of both streams."""
    status = main([str(each) for each in arguments])
    out, err = capsys.readouterr()
    return status, out, err


def graded(path: Path, grades: dict[str, float]) -> Path:
    """Graded events for the query `shoe`."""
    candidates = [{"item_id": t, "title": t, "grade": g} for t, g in grades.items()]
    event = {"query_id": "q", "user_query": "shoe", "candidates": candidates}
    path.write_text(json.dumps(event) + "\n")
    return path


def test_build_writes_a_verified_bundle_and_one_line_of_json(
    small_base: Path, small_bundle: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    categories = tmp_path / "categories.txt"
    categories.write_text("shoes\n\n hats \nshoes\n")
    events = graded(
        tmp_path / "graded.jsonl", {"shoe": 1.0, "shoes": 0.9, "9, 9": 0.2, "xylo": 0.0}
    )
    out = tmp_path / "bundle"
    out.mkdir()  # an empty folder is as good as none
    options = ("--variants", "fp32", "--categories", categories, "--calibrate", events, "--json")
    status, stdout, stderr = run(capfd, "build", "--base", small_base, "--out", out, *options)
    manifest = bundle.verify(out)
    assert status == 0
    assert json.loads(stdout) == {"digest": bundle.digest(out), "bundle": str(out)}
    assert stdout.count("\n") == 1
    assert "proving fp32" in stderr
    assert manifest.categories == ("shoes", "hats")
    assert manifest.calibration.slope > 0.0
    assert manifest.calibration.origin == "fitted on 1 graded events"
    again = bundle.read(small_bundle).files
    for name in ("onnx/encoder.onnx", "goldens.npz"):  # the same base gives the same bytes
        assert manifest.files[name] == again[name]


def test_build_never_overwrites(
    small_base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.txt").write_text("precious")
    status, stdout, stderr = run(capsys, "build", "--base", small_base, "--out", tmp_path)
    assert (status, stdout) == (1, "")
    assert "exists and is not empty" in stderr
    assert (tmp_path / "mine.txt").read_text() == "precious"


WRONG: list[tuple[str, list[str], str]] = [
    ("an unknown variant", ["--variants", "fp8"], "variants ['fp8'] are not among"),
    ("no such categories", ["--categories", "absent.txt"], "absent.txt"),
    ("no such graded events", ["--calibrate", "absent.jsonl"], "absent.jsonl"),
]


@pytest.mark.parametrize(("options", "why"), [w[1:] for w in WRONG], ids=[w[0] for w in WRONG])
def test_a_wrong_order_is_one_line_and_leaves_nothing(
    small_base: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    why: str,
) -> None:
    out = tmp_path / "bundle"
    status, stdout, stderr = run(capsys, "build", "--base", small_base, "--out", out, *options)
    assert (status, stdout) == (1, "")
    assert why in stderr
    assert stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_the_registry_from_publishing_to_rolling_back(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    digests = [save_sealed(tmp_path / note, note) for note in "ab"]

    def registry(*arguments: str | Path) -> Any:
        status, stdout, _ = run(
            capsys, "registry", *arguments, "--registry", tmp_path / "registry", "--json"
        )
        assert status == 0
        return json.loads(stdout)

    for note, digest in zip("ab", digests, strict=True):
        assert registry("publish", tmp_path / note) == {"digest": digest}
        registry("promote", digest, "--reason", "newer")
    assert registry("list") == {"digests": sorted(digests), "aliases": {"live": digests[1]}}
    assert registry("verify") == {"verified": sorted(digests)}
    assert registry("rollback", "--reason", "worse") == {"alias": "live", "digest": digests[0]}
    assert registry("verify", digests[0]) == {"verified": [digests[0]]}


def test_the_list_reads_well_without_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    registry = ("--registry", tmp_path / "registry")
    assert run(capsys, "registry", "list", *registry)[1] == "no bundles\n"
    digest = save_sealed(tmp_path / "a")
    run(capsys, "registry", "publish", tmp_path / "a", *registry)
    run(capsys, "registry", "promote", digest, "--reason", "first", *registry)
    assert run(capsys, "registry", "list", *registry)[1] == f"{digest} live\n"


@pytest.mark.parametrize(
    "arguments",
    [["registry", "promote", "0" * 64, "--reason", "x"], ["registry", "rollback", "--reason", "x"]],
)
def test_what_the_registry_refuses_is_exit_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    status, stdout, stderr = run(capsys, *arguments, "--registry", tmp_path)
    assert (status, stdout) == (1, "")
    assert stderr.startswith("error: ")


@pytest.mark.parametrize(
    "action",
    [["list"], ["verify"], ["promote", "0" * 64, "--reason", "x"], ["rollback", "--reason", "x"]],
    ids=lambda action: action[0],
)
def test_a_registry_is_no_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], action: list[str]
) -> None:
    file = tmp_path / "file"
    file.write_text("mine")
    status, stdout, stderr = run(capsys, "registry", *action, "--registry", file)
    assert (status, stdout) == (1, "")
    assert stderr == f"error: registry {file}: is a file, expected a folder or a URL\n"


@pytest.mark.parametrize("arguments", [[], ["build"], ["registry", "promote", "x"], ["paint"]])
def test_wrong_usage_is_exit_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    assert "usage:" in capsys.readouterr().err


def test_without_torch_build_names_the_extra(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from export.__main__ import main; sys.exit(main())"
    )
    arguments = ["build", "--base", "base", "--out", str(tmp_path / "out")]
    found = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False
    )
    assert found.returncode == 1
    assert "torch is missing: install the `export` extra" in found.stderr
