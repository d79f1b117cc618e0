"""One base in memory, and for each tenant an adapter of its own beside it.

A tenant's trunk is the base's modules anew around the base's own tensors: what is put into it is
the tenant's alone, what keeps still is there once. peft can keep several adapters in one trunk and
switch between them (`set_adapter`); but only one AdaLoRA of them may learn, what is no kind of
peft's (`export.adapters`) it does not know, and each checkpoint would hold those of all tenants.
"""

from __future__ import annotations

import copy
import hashlib
from pathlib import Path
from typing import Any, Final

import msgspec
from transformers import PreTrainedModel

from export import bundle
from export.onnx import load_trunk
from export.source import Source
from training.config import BadConfig, Config
from training.judgments import GradedQuery, digest, read_jsonl
from training.loop import given_up
from training.pipeline import run_judgments
from training.rounds import Round, write_whole
from training.service import zero_shot
from training.teach import Say
from training.tenants import Tenant

TENANTS: Final = "tenants"  # of the work folder


class Shared:
    """The base's trunk, read once. It keeps still: callers put what learns beside its weights."""

    def __init__(self) -> None:
        self._trunks: dict[str, PreTrainedModel] = {}

    def __call__(self, source: Source) -> PreTrainedModel:
        """A trunk around the weights of the first that was read of this base, on the CPU.

        Raises BundleError where it cannot be loaded.
        """
        known = source.weights_sha256
        if known not in self._trunks:
            self._trunks[known] = load_trunk(source)
        trunk = self._trunks[known].cpu()  # wherever a training has taken it
        kept: dict[int, Any] = {id(each): each for each in trunk.parameters()}
        return copy.deepcopy(trunk, kept)


def run_tenants(config: Config, out: Path, say: Say) -> dict[str, str]:
    """A bundle for each tenant at `out`/NAME, and its digest by the tenant's name.

    Killed anywhere and started again, it goes on with the tenant that it was at. Raises BadConfig
    where a tenant's folder holds something else, and whatever `run_judgments` raises: the bundles
    of the tenants before stay, and those after are not begun.
    """
    load = Shared() if len(config.tenants) > 1 else load_trunk
    encoder, found = zero_shot(config, say), {}
    for one in config.tenants:
        own = _own(config, one)
        queries = [each for path in one.judgments for each in read_jsonl(Path(path))]
        say(f"tenant {one.name}: {len(queries)} queries")
        if _finished(own, queries, out / one.name):
            say(f"tenant {one.name} was finished before")
        else:
            with given_up(Round(Path(own.work))):
                run_judgments(own, queries, out / one.name, say, encoder, load)
        found[one.name] = bundle.digest(out / one.name)
    return found


def _own(config: Config, tenant: Tenant) -> Config:
    """The configuration of one tenant alone."""
    work = Path(config.work) / TENANTS / tenant.name
    recipe = tenant.by(config.recipe)
    return msgspec.structs.replace(config, work=str(work), recipe=recipe, tenants=())


def _finished(own: Config, queries: list[GradedQuery], out: Path) -> bool:
    """Whether the tenant's bundle is there. What it is made of is noted before it is begun."""
    made_of = hashlib.sha256(f"{own.digest} {digest(queries)}".encode()).hexdigest().encode()
    note = Path(f"{own.work}.begun")
    if not out.exists():
        write_whole(note, made_of)
        return False
    if note.exists() and note.read_bytes() == made_of and (out / bundle.MANIFEST).is_file():
        return True
    raise BadConfig(
        f"{out}: holds what was made of other labels or settings; nothing is overwritten"
    )
