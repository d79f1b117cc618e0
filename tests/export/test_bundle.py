"""A bundle's folder: sealed, read, and refused when anything in it differs."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from export import bundle
from export.bundle import BundleError, Goldens, Segment, Template
from tests.export.models import manifest, save_sealed

FILES = (
    *("README.md", "config.json", "goldens.npz", "onnx/encoder.onnx"),
    *("tokenizer.json", "tokenizer_config.json"),
)


def test_a_sealed_bundle_verifies_under_its_digest(tmp_path: Path) -> None:
    digest = save_sealed(tmp_path / "b")
    assert bundle.digest(tmp_path / "b") == digest
    assert tuple(bundle.verify(tmp_path / "b", digest).files) == FILES


def test_equal_content_has_equal_digests(tmp_path: Path) -> None:
    assert save_sealed(tmp_path / "a") == save_sealed(tmp_path / "b")


@pytest.mark.parametrize("name", FILES)
def test_a_changed_file_is_refused_by_name(tmp_path: Path, name: str) -> None:
    save_sealed(tmp_path / "b")
    path = tmp_path / "b" / name
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(BundleError, match=name):
        bundle.verify(tmp_path / "b")


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_refused_by_name(tmp_path: Path, name: str) -> None:
    save_sealed(tmp_path / "b")
    (tmp_path / "b" / name).unlink()
    with pytest.raises(BundleError, match=f"{name}: missing"):
        bundle.verify(tmp_path / "b")


def test_another_manifest_than_the_expected_one_is_refused(tmp_path: Path) -> None:
    save_sealed(tmp_path / "b")
    with pytest.raises(BundleError, match=r"manifest\.json: sha256 .* expected 0000"):
        bundle.verify(tmp_path / "b", "0" * 64)


MANIFESTS = [
    ("an unknown format", b'{"format_version": 2}', "format_version 2, this code knows 1"),
    ("no format", b"{}", "format_version None"),
    ("not JSON", b"{", r"manifest\.json"),
    ("a missing field", b'{"format_version": 1}', "missing required field"),
    (
        "a file outside",
        msgspec.json.encode(manifest(files={"../secret": "0"})),
        r"\.\./secret: lies outside",
    ),
]


@pytest.mark.parametrize(
    ("written", "why"), [m[1:] for m in MANIFESTS], ids=[m[0] for m in MANIFESTS]
)
def test_a_manifest_that_is_not_known_is_refused(tmp_path: Path, written: bytes, why: str) -> None:
    (tmp_path / "manifest.json").write_bytes(written)
    with pytest.raises(BundleError, match=why):
        bundle.verify(tmp_path)


def test_a_folder_without_a_manifest_is_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"manifest\.json"):
        bundle.read(tmp_path)


def test_goldens_come_back_as_they_were_written(tmp_path: Path) -> None:
    tokens = np.arange(6, dtype=np.int64).reshape(2, 3)
    vector = np.eye(2, dtype=np.float32)
    Goldens(input_ids=tokens, attention_mask=tokens, vector=vector).write(tmp_path)
    found = Goldens.read(tmp_path)
    assert np.array_equal(found.input_ids, tokens)
    assert np.array_equal(found.vector, vector)
    assert found.vector.dtype == np.float32


def test_goldens_that_are_no_archive_are_refused(tmp_path: Path) -> None:
    (tmp_path / "goldens.npz").write_bytes(b"not an archive")
    with pytest.raises(BundleError, match=r"goldens\.npz"):
        Goldens.read(tmp_path)


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"title": "Shoe", "brand": "Acme"}, "passage: Shoe by Acme."),
        ({"title": "Shoe", "brand": " "}, "passage: Shoe"),
        ({"brand": "Acme", "title": None}, "passage:  by Acme."),
        ({}, "passage: "),
    ],
)
def test_an_absent_field_renders_as_nothing(fields: dict[str, str | None], text: str) -> None:
    brand = Segment(field="brand", before=" by ", after=".")
    template = Template(item_before="passage: ", item=(Segment(field="title"), brand))
    assert template.render(fields) == text


@given(st.text())
def test_the_plain_template_leaves_a_query_as_it_is(query: str) -> None:
    assert Template().query(query) == query
