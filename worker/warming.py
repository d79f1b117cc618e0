"""Compilation before it is waited for: what serves first here, the rest in a process beside.

On a new machine the nine methods and the exchanges take the better part of a minute to compile, and
who compiles in a process holds up whatever else it does. So a worker compiles its own method, gets
ready, and lets a child fill the folder of machine code, from which all is then loaded in less than
a second. Where no machine code can be kept a child is of no use, and all is compiled before.
"""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Iterable

import numpy as np

from worker.ranking.diversify import METHODS, diversify
from worker.ranking.diversify.compiled import KEPT_IN
from worker.ranking.diversify.limits import Limit
from worker.ranking.model import Scores

LOG = logging.getLogger(__name__)
WHOLE = None if KEPT_IN is None else KEPT_IN / "whole"  # is there once all was compiled and kept
CHILD = "from worker import warming; warming.keep_all()"


def warm(methods: Iterable[str] = METHODS, *, limited: bool = True) -> None:
    """Compile methods, and what limits need, or load what is kept of them."""
    bare = np.zeros((2, 0))
    utility = np.array([0.6, 0.4])
    scores = Scores(utility, utility, np.eye(2, dtype=np.float32), bare, bare)
    crowded = [Limit("none", [0, 0], at_most=[0, 0])]  # that exchanges are asked, too
    for method in methods:
        diversify(scores, utility, method, 0.5, 2, limits=crowded if limited else ())


def warm_first(method: str) -> bool:
    """What must be there before a worker is ready; gives whether `warm_rest` is still to come."""
    cold = WHOLE is not None and not WHOLE.exists()
    if cold:
        warm([method], limited=False)
    else:
        warm()
    return cold


def warm_rest() -> None:
    """Have the rest compiled and kept, and load it. Where that fails, first use compiles it."""
    try:
        subprocess.run([sys.executable, "-c", CHILD], stderr=subprocess.PIPE, check=True)
        warm()
    except (OSError, subprocess.CalledProcessError) as error:
        told = getattr(error, "stderr", None) or b""
        LOG.warning("compiling ahead failed: %s %s", error, told.decode(errors="replace")[-500:])


def keep_all() -> None:
    """Compile everything, keep it, and say so."""
    warm()
    if WHOLE is not None:
        WHOLE.touch()
