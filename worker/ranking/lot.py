"""Chance that is none: a number that hangs on names alone.

Where something is drawn by lot, the lot is a hash of the query's id and of what is drawn: an event
that is delivered again has the same list, and the pages of a list fit together.
"""

from __future__ import annotations

import hashlib


def seed_of(query_id: str) -> bytes:
    """What all lots of a query hang on."""
    return hashlib.sha256(query_id.encode()).digest()


def lot(seed: bytes, name: bytes) -> float:
    """Uniform in [0, 1) over seeds and names."""
    drawn = hashlib.sha256(seed + name).digest()
    return (int.from_bytes(drawn[:8], "big") >> 11) / 2**53
