"""What costs seconds is made once a run, however many processes share the run's tests."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock


def once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """The folder `name` of this run. `make` fills it, in the process that asks for it first; the
    others wait until it is whole. Nobody writes to it afterwards but into a copy.

    https://pytest-xdist.readthedocs.io/en/stable/how-to.html#making-session-scoped-fixtures-execute-only-once
    """
    root = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:  # then that is the worker's own, in the run's
        root = root.parent
    folder, whole = root / "once" / name, root / "once" / f"{name}.whole"
    folder.parent.mkdir(exist_ok=True)
    with FileLock(folder.with_suffix(".lock")):
        if not whole.exists():
            shutil.rmtree(folder, ignore_errors=True)  # of a process that failed on the way
            folder.mkdir()
            make(folder)
            whole.touch()
    return folder
