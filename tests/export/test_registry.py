"""The registry: one suite over a folder and over an object store in memory."""

from __future__ import annotations

import uuid
from pathlib import Path

import fsspec
import pytest

from export import bundle
from export.bundle import BundleError
from export.registry import Registry, RegistryError
from tests.export.models import save_sealed


@pytest.fixture(params=["folder", "memory"])
def registry(request: pytest.FixtureRequest, tmp_path: Path) -> Registry:
    """An empty registry."""
    if request.param == "folder":
        return Registry(tmp_path / "registry")
    return Registry(f"memory://{uuid.uuid4().hex}")


@pytest.fixture
def bundles(tmp_path: Path) -> list[Path]:
    """Three sealed folders."""
    for note in "abc":
        save_sealed(tmp_path / note, note)
    return [tmp_path / note for note in "abc"]


def overwrite(registry: Registry, path: str, content: bytes) -> None:
    """Write a file of the registry behind its back."""
    fs, root = fsspec.url_to_fs(registry.url)
    fs.makedirs(f"{root}/{path}".rpartition("/")[0], exist_ok=True)
    fs.pipe_file(f"{root}/{path}", content)


def test_an_empty_registry_has_nothing(registry: Registry) -> None:
    assert registry.digests() == []
    assert registry.aliases() == {}
    assert registry.history() == []
    assert registry.resolve("live") is None


def test_publishing_twice_is_publishing_once(registry: Registry, bundles: list[Path]) -> None:
    digest = registry.publish(bundles[0])
    assert registry.publish(bundles[0]) == digest == bundle.digest(bundles[0])
    assert registry.digests() == [digest]
    assert registry.verify(digest) == bundle.read(bundles[0])


def test_a_bundle_that_does_not_verify_is_not_published(
    registry: Registry, bundles: list[Path]
) -> None:
    (bundles[0] / "README.md").write_text("changed")
    with pytest.raises(BundleError, match=r"README\.md"):
        registry.publish(bundles[0])
    assert registry.digests() == []


def test_a_half_published_bundle_is_not_there_and_can_be_completed(
    registry: Registry, bundles: list[Path]
) -> None:
    digest = bundle.digest(bundles[0])
    overwrite(registry, f"bundles/{digest}/README.md", b"half of a fi")
    assert registry.digests() == []
    with pytest.raises(BundleError, match="not in"):
        registry.promote(digest, reason="too early")
    registry.publish(bundles[0])
    assert registry.verify(digest) == bundle.read(bundles[0])


def test_a_promoted_alias_names_its_bundle_and_the_history_says_why(
    registry: Registry, bundles: list[Path]
) -> None:
    one, two = (registry.publish(folder) for folder in bundles[:2])
    registry.promote(one, reason="first day")
    registry.promote(two, reason="better")
    registry.promote(one, alias="challenger", reason="to compare")
    assert registry.resolve("live") == two
    assert registry.aliases() == {"challenger": one, "live": two}
    told = [(c.alias, c.digest, c.previous, c.action, c.reason) for c in registry.history()]
    assert told == [
        ("live", one, None, "promote", "first day"),
        ("live", two, one, "promote", "better"),
        ("challenger", one, None, "promote", "to compare"),
    ]


def test_two_rollbacks_go_back_twice_and_a_third_is_refused(
    registry: Registry, bundles: list[Path]
) -> None:
    one, two, three = (registry.publish(folder) for folder in bundles)
    for digest in (one, two, two, three):
        registry.promote(digest, reason="newer")
    assert registry.rollback(reason="worse") == two
    assert registry.rollback(reason="worse still") == one
    assert registry.resolve("live") == one
    with pytest.raises(RegistryError, match="nothing from before"):
        registry.rollback(reason="desperate")
    assert registry.resolve("live") == one


def test_a_promotion_that_was_killed_before_the_alias_moved_is_told_once(
    registry: Registry, bundles: list[Path]
) -> None:
    one, two = (registry.publish(folder) for folder in bundles[:2])
    registry.promote(one, reason="first")
    registry.promote(two, reason="better")
    overwrite(registry, "aliases/live", f"{one}\n".encode())
    registry.promote(two, reason="better")
    assert registry.resolve("live") == two
    assert [change.digest for change in registry.history()] == [one, two]
    registry.promote(two, reason="said again by a person")
    assert [change.digest for change in registry.history()] == [one, two, two]


def test_a_rollback_that_was_killed_before_the_alias_moved_goes_back_once(
    registry: Registry, bundles: list[Path]
) -> None:
    one, two, three = (registry.publish(folder) for folder in bundles)
    for digest in (one, two, three):
        registry.promote(digest, reason="newer")
    registry.rollback(reason="worse")
    overwrite(registry, "aliases/live", f"{three}\n".encode())
    assert registry.rollback(reason="worse") == two
    assert registry.resolve("live") == two
    assert [change.action for change in registry.history()] == 3 * ["promote"] + ["rollback"]
    assert registry.rollback(reason="worse still") == one


def test_a_garbled_alias_is_mended_and_what_it_named_can_be_gone_back_to(
    registry: Registry, bundles: list[Path]
) -> None:
    one, two = (registry.publish(folder) for folder in bundles[:2])
    registry.promote(one, reason="first")
    overwrite(registry, "aliases/live", b"no digest")
    assert registry.aliases() == {}
    registry.promote(two, reason="mended")
    assert registry.aliases() == {"live": two}
    assert registry.rollback(reason="worse") == one


def test_what_never_moved_the_alias_is_not_gone_back_to(
    registry: Registry, bundles: list[Path]
) -> None:
    one, two, three = (registry.publish(folder) for folder in bundles)
    for digest in (one, two, three):
        registry.promote(digest, reason="newer")
    overwrite(registry, "aliases/live", f"{two}\n".encode())
    assert (
        registry.rollback(reason="the promotion of the third was killed, and the second is bad")
        == one
    )
    registry.promote(three, reason="again")
    assert registry.rollback(reason="bad too") == one


def test_a_rollback_after_a_rollback_and_a_promotion_returns_to_what_served(
    registry: Registry, bundles: list[Path]
) -> None:
    one, two, three = (registry.publish(folder) for folder in bundles)
    registry.promote(one, reason="first")
    registry.promote(two, reason="second")
    registry.rollback(reason="bad")
    registry.promote(three, reason="third")
    assert registry.rollback(reason="bad too") == one


def test_a_tampered_bundle_is_neither_promoted_nor_fetched(
    registry: Registry, bundles: list[Path], tmp_path: Path
) -> None:
    digest = registry.publish(bundles[0])
    overwrite(registry, f"bundles/{digest}/onnx/encoder.onnx", b"evil")
    with pytest.raises(BundleError, match=r"onnx/encoder\.onnx"):
        registry.promote(digest, reason="in good faith")
    with pytest.raises(BundleError, match=r"onnx/encoder\.onnx"):
        registry.fetch(digest, tmp_path / "cache")
    assert registry.resolve("live") is None
    assert not (tmp_path / "cache" / digest).exists()


def test_a_fetched_bundle_verifies_and_is_fetched_once(
    registry: Registry, bundles: list[Path], tmp_path: Path
) -> None:
    digest = registry.publish(bundles[0])
    folder = registry.fetch(digest, tmp_path / "cache")
    assert bundle.digest(folder) == digest
    assert registry.fetch(digest, tmp_path / "cache") == folder


def test_a_remote_copy_that_rotted_is_fetched_anew(bundles: list[Path], tmp_path: Path) -> None:
    registry = Registry(f"memory://{uuid.uuid4().hex}")
    digest = registry.publish(bundles[0])
    folder = registry.fetch(digest, tmp_path / "cache")
    (folder / "README.md").write_text("rotten")
    assert bundle.verify(registry.fetch(digest, tmp_path / "cache"), digest)
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [digest]


def test_a_folder_keeps_no_temporary_files(bundles: list[Path], tmp_path: Path) -> None:
    registry = Registry(tmp_path / "registry")
    registry.promote(registry.publish(bundles[0]), reason="first")
    names = {path.name for path in (tmp_path / "registry").rglob("*") if path.is_file()}
    expected = {path.name for path in bundles[0].rglob("*") if path.is_file()}
    assert names == expected | {"live", "history.jsonl"}


@pytest.mark.parametrize("alias", ["", "../live", "a/b", ".", "LIVE", "live\n", "x" * 65])
def test_an_alias_that_is_no_plain_name_is_refused(registry: Registry, alias: str) -> None:
    with pytest.raises(RegistryError, match="is not an alias"):
        registry.resolve(alias)


@pytest.mark.parametrize("digest", ["", "..", "0" * 63, "G" * 64, "../" + "0" * 61])
def test_a_digest_that_is_none_is_refused(registry: Registry, digest: str, tmp_path: Path) -> None:
    for ask in (
        lambda: registry.verify(digest),
        lambda: registry.promote(digest, reason="why not"),
        lambda: registry.fetch(digest, tmp_path),
    ):
        with pytest.raises(RegistryError, match="is not a digest"):
            ask()


def test_an_alias_file_that_holds_no_digest_is_refused(registry: Registry) -> None:
    overwrite(registry, "aliases/live", b"../../elsewhere\n")
    with pytest.raises(RegistryError, match="is not a digest"):
        registry.resolve("live")
