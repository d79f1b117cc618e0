"""The workers of these tests find all machine code there."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="session", autouse=True)
def compiled(machine_code: None) -> None:
    """Before the first of them starts."""
