"""A bundle's encoder as a `Model`: the same for the worker, the `rerank` command and training."""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping, Sequence
from typing import Any, Protocol

from numpy.typing import NDArray

from export.bundle import Manifest
from worker.ranking.cache import Bounded
from worker.ranking.model import Encoded, TokenBatch, TokenBudget, Vector


class Session(Protocol):
    """A bundle's running graphs, as `export.session` opens them."""

    @property
    def manifest(self) -> Manifest: ...

    @property
    def digest(self) -> str: ...

    def tokenize(self, texts: Sequence[str]) -> list[Sequence[int]]:
        """The token ids of each text."""

    def run(self, graph: str, arrays: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """The outputs of a graph by name."""


def nobody(_tokens: int) -> None:
    """Nobody counts the tokens."""


class Encoder:
    """The first stage: a text becomes a unit vector, once, and is remembered."""

    def __init__(
        self,
        session: Session,
        cached_vectors: int = 100_000,
        budget: TokenBudget | None = None,
        tell: Callable[[int], None] = nobody,
    ) -> None:
        """`tell` hears of the padded tokens of every call."""
        manifest = session.manifest
        self._run, self._tell = session.run, tell
        self.tokenize = session.tokenize
        self.digest: str | None = session.digest
        self.template = manifest.template
        self.calibration = manifest.calibration
        self.categories = manifest.categories
        self.budget = budget or TokenBudget()
        self.vectors: MutableMapping[str, Vector] = Bounded(cached_vectors)

    def score(self, batch: TokenBatch) -> Encoded:
        """Run the encoder graph over a batch."""
        self._tell(batch.padded_tokens)
        arrays = {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask}
        return Encoded(vectors=self._run("encoder", arrays)["vector"])
