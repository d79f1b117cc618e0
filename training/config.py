"""Everything that a configuration file of training says, read once and checked as a whole."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from training.collect import CollectSettings
from training.debias import DebiasSettings
from training.drift import DriftSettings
from training.examination import ExaminationSettings
from training.faults import explained
from training.gate import GateSettings
from training.impressions import LabelSettings
from training.logs import LogSettings
from training.loop import LoopSettings
from training.recipe import Recipe
from training.shown import PastSettings
from training.simulate import SimulateSettings
from training.space import TuneSettings
from training.teach import ModelSettings
from training.tenants import Tenant
from training.tenants import check as check_tenants
from training.views import WarmUpSettings
from worker.errors import PrismrankError
from worker.ranking.diversify import METHODS


class BadConfig(PrismrankError):
    """A configuration cannot be used. Nothing was begun; the command ends with status 2."""


class JudgeSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a challenger is judged on, and at which dial."""

    held_out: Annotated[
        float, Meta(gt=0, lt=1, description="the newest share of impression lists, for judging")
    ] = 0.2
    kept: Annotated[
        float,
        Meta(gt=0, lt=1, description="share of queries for early stopping and the calibration"),
    ] = 0.1
    golden: Annotated[
        tuple[str, ...], Meta(description="JSONL of search events with grades: golden queries")
    ] = ()
    diversity: Annotated[
        float, Meta(ge=0, le=1, description="the dial that lists are served at")
    ] = 0.2
    method: Annotated[str, Meta(description="the diversifier that they are served with")] = "facets"

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ValueError(f"method {self.method!r}: expected one of {', '.join(METHODS)}")


class RegistrySettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where bundles go."""

    url: Annotated[str, Meta(min_length=1, description="folder or fsspec URL of the registry")] = (
        ".prismrank/registry"
    )
    alias: Annotated[str, Meta(description="the alias that is promoted")] = "live"
    promote: Annotated[
        bool, Meta(description="false: the gate's decision is written down, and a person promotes")
    ] = True


class Config(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One file: what to learn from, how, and who may serve."""

    work: Annotated[str, Meta(min_length=1, description="folder of rounds and their stages")]
    model: ModelSettings
    logs: LogSettings
    collect: CollectSettings = CollectSettings()
    past: PastSettings = PastSettings()
    labels: LabelSettings = LabelSettings()
    examination: ExaminationSettings = ExaminationSettings()
    debias: DebiasSettings = DebiasSettings()
    recipe: Recipe = Recipe()
    judge: JudgeSettings = JudgeSettings()
    gate: GateSettings = GateSettings()
    registry: RegistrySettings = RegistrySettings()
    loop: LoopSettings = LoopSettings()
    drift: DriftSettings = DriftSettings()
    simulate: SimulateSettings = SimulateSettings()
    warm_up: WarmUpSettings = WarmUpSettings()
    tune: TuneSettings = TuneSettings()
    tenants: Annotated[
        tuple[Tenant, ...], Meta(description="who are trained beside one base, each on its own")
    ] = ()

    def __post_init__(self) -> None:
        if self.model.history and self.debias.rows == "query":
            raise ValueError(
                f'model.history {self.model.history}: expected debias.rows "impression", for one'
                " list a query has no user; or history 0"
            )
        if self.recipe.replay.share is not None and self.debias.rows == "query":
            raise ValueError(
                f"recipe.replay.share {self.recipe.replay.share}: expected debias.rows"
                ' "impression", for one list a query is of all periods; or no share'
            )

        check_tenants(self.tenants, self.recipe)

    @property
    def digest(self) -> str:
        """The sha256 of what decides over a round's result."""
        parts = (self.model, self.labels, self.examination, self.debias, self.recipe)
        return hashlib.sha256(msgspec.json.encode((*parts, self.judge, self.gate))).hexdigest()


def read(path: Path) -> Config:
    """The configuration in a TOML file; BadConfig names the file, the field and what it expects."""
    try:
        raw = path.read_bytes()
        return msgspec.toml.decode(raw, type=Config)
    except OSError as error:
        raise BadConfig(f"{path}: {error.strerror}") from error
    except msgspec.ValidationError as error:
        why = explained(str(error), msgspec.toml.decode(raw), Config)
        raise BadConfig(f"{path}: {why}") from error
    except (msgspec.DecodeError, ValueError) as error:
        raise BadConfig(f"{path}: {error}") from error
