"""The children of the demo: found, checked, and gone when they should be."""

import asyncio
import sys
from pathlib import Path

import pytest

from worker.demo import children
from worker.errors import BadSetting, WorkerFault


def test_the_base_model_is_the_folder_that_the_environment_names(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PRISMRANK_BASE", str(tmp_path))
    assert children.base_model() == tmp_path


def test_the_packaged_base_model_is_checked_by_its_digest(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    package = tmp_path / children.BASE_PACKAGE
    (package / "model").mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "model" / "model.safetensors").write_bytes(b"not the weights")
    monkeypatch.delenv("PRISMRANK_BASE", raising=False)
    monkeypatch.delitem(sys.modules, children.BASE_PACKAGE, raising=False)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(BadSetting, match="expected 53aa5117"):
        children.base_model()


def test_a_live_bundle_is_taken_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "aliases").mkdir()
    (tmp_path / "aliases" / "live").write_text("ab12\n")
    assert asyncio.run(children.ensure_live_bundle(tmp_path, print)) == "ab12"


def test_a_base_that_is_no_model_is_told_with_what_the_builder_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PRISMRANK_BASE", str(tmp_path))
    with pytest.raises(WorkerFault, match="python -m export build"):
        asyncio.run(children.ensure_live_bundle(tmp_path / "registry", print))
    assert list(tmp_path.iterdir()) == []


def test_a_misconfigured_worker_is_not_restarted(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PRISMRANK_NO_SUCH_SETTING", "1")
    worker = children.Worker("127.0.0.1:9", tmp_path, tmp_path / "worker.log")
    worker.start()
    with pytest.raises(WorkerFault, match="PRISMRANK_NO_SUCH_SETTING"):
        asyncio.run(worker.wait_ready())


def test_a_killed_worker_is_gone_and_stopping_it_is_allowed(tmp_path: Path) -> None:
    worker = children.Worker("127.0.0.1:9", tmp_path, tmp_path / "worker.log")
    worker.stop()
    worker.start()
    worker.kill()
    worker.stop()
