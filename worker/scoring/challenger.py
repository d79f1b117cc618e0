"""The bundle on trial: follows its alias as the live model does, and gives way to it in everything.

It is there only while its alias names a bundle that is not the live one and was not taken back. No
worker writes to the registry: it has one writer (`export.registry`), which many workers are not
allowed to be. So each remembers what it took back for as long as it runs, and the alias stays.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Final

import msgspec

from worker.ranking.bundled import nobody
from worker.scoring.live import Live
from worker.settings import Settings

LOG = logging.getLogger(__name__)
NONE: Final[dict[str, Any]] = dict(
    challenger="",
    challenger_share=0.0,
    challenger_shadow=0.0,
    challenger_group="",
    challenger_drift=1.0,
)  # settings of a challenger, which has none itself


class Challenger(Live):
    """`model` is None while nothing is tried."""

    said = "trying"

    def __init__(
        self,
        settings: Settings,
        champion: Live,
        took: Callable[[str, str, str, str], None],
        tell: Callable[[int], None] = nobody,
    ) -> None:
        own = msgspec.structs.replace(settings, alias=settings.challenger, **NONE)
        super().__init__(own, took, tell)
        self._champion = champion
        self._taken_back: set[str] = set()
        self._asked = ""

    def poll(self) -> bool:
        """As the live model's, but that whatever goes wrong ends the trial, and not the worker."""
        self._asked = ""
        try:
            swapped = super().poll()
            if self._asked in self._taken_back:  # meanwhile
                self.take_back(self._asked)
            return swapped
        except Exception as error:
            self._refuse("refused" if self._asked else "unreachable", self._asked, error)
            self.take_back(self._asked)
            return False

    def take_back(self, digest: str) -> None:
        """Try that bundle no more, in this process."""
        self._taken_back.add(digest)
        model = self.model  # once: another thread may let it go
        if model is not None and model.digest == digest:
            self.model = None

    def _wanted(self) -> str | None:
        """What the alias names; None, and nothing is tried, where that may not be tried."""
        wanted = super()._wanted()
        live = self._champion.model.digest if self._champion.model else None
        if wanted in self._taken_back or wanted == live:
            wanted = None
        if self.model is not None and self.model.digest != wanted:
            self.model = None  # before the next is read: two models need memory enough
        self._asked = wanted or ""
        return wanted

    def _refuse(self, result: str, digest: str, error: Exception) -> None:
        LOG.error("challenger %s: %s; the champion serves on", result, error)
        self._took(result, digest, "", "")
