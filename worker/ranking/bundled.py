"""A bundle's graphs as a `Model`: the same for the worker, the `rerank` command and training."""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping, Sequence
from typing import Any, Protocol

from numpy.typing import NDArray

from export.bundle import Manifest
from export.domain import Domain
from worker.ranking.cache import Bounded
from worker.ranking.model import (
    Encoded,
    Floats,
    PairModel,
    PairTokens,
    Reading,
    TokenBatch,
    TokenBudget,
)


class Session(Protocol):
    """A bundle's running graphs, as `export.session` opens them."""

    @property
    def manifest(self) -> Manifest: ...

    @property
    def digest(self) -> str: ...

    @property
    def domain(self) -> Domain | None: ...

    def tokenize(self, texts: Sequence[str]) -> list[Sequence[int]]:
        """The token ids of each text."""

    def tokenize_pairs(self, pairs: Sequence[tuple[str, str]]) -> Sequence[PairTokens]:
        """The token ids of each pair, and which of its texts each token is of."""

    def run(self, graph: str, arrays: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """The outputs of a graph by name."""


def nobody(_tokens: int) -> None:
    """Nobody counts the tokens."""


class Bundled:
    """The encoder reads a text once and remembers it; the pair model is there once trained."""

    def __init__(
        self,
        session: Session,
        cached_vectors: int = 100_000,
        budget: TokenBudget | None = None,
        tell: Callable[[int], None] = nobody,
        cached_pairs: int = 100_000,
    ) -> None:
        """`tell` hears of the padded tokens of every call."""
        manifest = session.manifest
        self._run, self._tell = session.run, tell
        self.tokenize = session.tokenize
        self.digest: str | None = session.digest
        self.template = manifest.template
        self.calibration = manifest.calibration
        self.categories = manifest.categories
        self.category_head = "category" in manifest.outputs
        self.spelling = manifest.spelling
        self.budget = budget or TokenBudget()
        self.readings: MutableMapping[str, Reading] = Bounded(cached_vectors)
        self.pairs: PairModel | None = None
        if manifest.pair_template is not None and manifest.blend is not None:
            self.pairs = PairModel(
                manifest.pair_template,
                manifest.blend,
                session.tokenize_pairs,
                self._score_pairs,
                Bounded(cached_pairs),
                session.domain,
            )

    def score(self, batch: TokenBatch) -> Encoded:
        """Run the encoder graph over a batch."""
        found = self._ask("encoder", batch)
        return Encoded(found["vector"], found["category"] if self.category_head else None)

    def _score_pairs(self, batch: TokenBatch) -> Floats:
        """Run the pair graph over a batch: [n] logits."""
        return self._ask("model", batch)["relevance"]

    def _ask(self, graph: str, batch: TokenBatch) -> dict[str, NDArray[Any]]:
        self._tell(batch.padded_tokens)
        arrays = {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask}
        if batch.token_type_ids is not None:
            arrays["token_type_ids"] = batch.token_type_ids
        return self._run(graph, arrays)
