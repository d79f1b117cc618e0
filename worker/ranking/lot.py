"""Chance that is none: a number that hangs on names alone.

Where something is drawn by lot, the lot is a hash of the query's id and of what is drawn: an event
that is delivered again has the same list, and the pages of a list fit together.
"""

from __future__ import annotations

import hashlib


def lot(query_id: str, kind: str, name: str = "") -> float:
    """Uniform in [0, 1) over queries, kinds and names."""
    drawn = hashlib.sha256(repr((query_id, kind, name)).encode()).digest()
    return (int.from_bytes(drawn[:8], "big") >> 11) / 2**53
