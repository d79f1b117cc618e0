"""The live model: follows an alias of the registry, and swaps only to what has proved itself.

A bundle is taken up when its digests match and its goldens replay on this device. Anything else
leaves the old model in place and is said in a log line and a metric.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

from export import registry as registries
from export import session as sessions
from export.bundle import BundleError
from worker.ranking.bundled import Bundled, nobody
from worker.ranking.model import Model
from worker.ranking.pairs import read_pairs
from worker.ranking.rerank import read
from worker.settings import Settings

LOG = logging.getLogger(__name__)
WARM_LENGTHS = (1, 4, 8, 16, 32, 64, 128)  # words: a graph's first run at a length plans memory


def open_model(
    folder: Path, settings: Settings, tell: Callable[[int], None] = nobody
) -> tuple[Bundled, sessions.Session]:
    """A model ready to serve: verified, its goldens replayed on this device, warm."""
    session = sessions.open_session(folder, settings.variant, settings.device, settings.threads)
    sessions.replay(session)
    model = Bundled(session, settings.cached_vectors, settings.budget, tell, settings.cached_pairs)
    warm_up(model)
    return model, session


def warm_up(model: Model) -> None:
    """Run every graph once at each length, and forget what was read."""
    titles = [" ".join(["shoe"] * length) for length in WARM_LENGTHS]
    for title in titles:
        read([title], model)
        if model.pairs is not None:
            read_pairs([("shoe", title)], model.pairs, model.budget)
    model.readings.clear()


class Live:
    """The model in use. `model` is read once a micro-batch, so no list mixes two."""

    said = "serving"

    def __init__(
        self,
        settings: Settings,
        took: Callable[[str, str, str, str], None],
        tell: Callable[[int], None] = nobody,
    ) -> None:
        self._settings, self._tell = settings, tell
        self._registry = registries.Registry(settings.registry)
        self._took = took  # told of every swap: result, digest, device, variant
        self._refused: str | None = None
        self.model: Bundled | None = None

    def poll(self) -> bool:
        """Look at the alias; take up a bundle that is new. True where the model changed."""
        wanted = None
        try:
            wanted = self._wanted()
            current = self.model.digest if self.model else None
            if wanted is None or wanted in (current, self._refused):
                return False
            folder = self._registry.fetch(wanted, Path(self._settings.bundle_cache))
            self._registry.verify(wanted)
            self.model, session = open_model(folder, self._settings, self._tell)
        except BundleError as error:
            self._refused = wanted
            self._refuse("refused", wanted or "", error)
            return False
        except (
            registries.RegistryError,
            OSError,
        ) as error:  # the registry is out of reach: ask again at the next poll
            self._refuse("unreachable", "", error)
            return False
        self._refused = None
        LOG.info("%s %s on %s", self.said, wanted, session.device, extra={"model": wanted})
        self._took("swapped", wanted, session.device, session.variant)
        return True

    def _wanted(self) -> str | None:
        return self._registry.resolve(self._settings.alias)

    def _refuse(self, result: str, digest: str, error: Exception) -> None:
        kept = self.model.digest if self.model else "none"
        LOG.error("%s: %s; %s still serves", result, error, kept, extra={"model": kept})
        self._took(result, digest, "", "")
