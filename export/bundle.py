"""The contract between training and worker: what a bundle's folder holds, and what its words mean.

A bundle is immutable and named by the hex sha256 of its `manifest.json`, which names the sha256 of
every other file. This module reads, checks and writes that folder; it knows neither torch nor
onnxruntime.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import msgspec
import numpy as np
from msgspec import Meta, Struct
from numpy.typing import NDArray

from export.blend import Blend as Blend
from export.blend import Calibration as Calibration
from export.blend import Curve as Curve
from export.domain import DAMAGED, DOMAIN, Domain
from export.template import Segment as Segment
from export.template import Template as Template

FORMAT_VERSION: Final = 1
MANIFEST: Final = "manifest.json"
GOLDENS: Final = "goldens.npz"
INPUTS: Final = ("input_ids", "attention_mask", "token_type_ids")
OUTPUTS: Final = {"encoder": ("vector", "category"), "model": ("relevance",)}  # by graph


class BundleError(Exception):
    """A folder is not a bundle that may serve. Who asked keeps the model that they have."""

    def __init__(self, where: Path | str, why: str) -> None:
        super().__init__(f"bundle {where} refused: {why}")
        self.why = why


class Variant(Struct, frozen=True, kw_only=True):
    """One precision of the graphs: where they lie, and how near to the trained model they came.

    `golden_tolerance` is of the vectors; logits have scales of their own, and theirs, by name of
    the output, stand in `logit_tolerance`.
    """

    graphs: dict[str, str]
    golden_tolerance: Annotated[float, Meta(gt=0, le=0.5)]
    logit_tolerance: dict[str, Annotated[float, Meta(gt=0)]] = {}
    parity: dict[str, float]
    deterministic: bool


class Manifest(Struct, frozen=True, kw_only=True):
    """`manifest.json`: everything that a worker must know of a bundle."""

    format_version: int
    task: Literal["rank", "classify"]
    base_model: dict[str, str]
    parent: str | None
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    dimensions: Annotated[int, Meta(ge=0)]  # 0 in a draft, before a vector was seen
    max_tokens: Annotated[int, Meta(ge=2, le=1_000_000)]
    template: Template
    categories: tuple[str, ...]
    calibration: Calibration
    spelling: bool = False  # a misspelt query is read as its candidates spell it
    pair_template: Template | None = None  # of the pair model; none in a zero-shot bundle
    blend: Blend | None = None
    variants: dict[str, Variant]
    files: dict[str, str]
    training: dict[str, Any] | None = None
    report: str | None = None


class Goldens(Struct, frozen=True, kw_only=True):
    """Tokens with what the trained model gave for them; int64 in, float32 out.

    [n, s] tokens of texts, their vectors [n, d] and, from a category head, logits [n, C];
    with a pair model also [m, t] tokens of pairs and their relevance [m].
    """

    input_ids: NDArray[np.int64]
    attention_mask: NDArray[np.int64]
    vector: NDArray[np.float32]
    category: NDArray[np.float32] | None = None
    pair_input_ids: NDArray[np.int64] | None = None
    pair_attention_mask: NDArray[np.int64] | None = None
    pair_token_type_ids: NDArray[np.int64] | None = None
    relevance: NDArray[np.float32] | None = None

    def tokens(self, graph: str) -> dict[str, NDArray[np.int64]]:
        """The inputs of `encoder` or `model`, by name; empty where there are no pairs."""
        if graph == "encoder":
            return {"input_ids": self.input_ids, "attention_mask": self.attention_mask}
        given = {name: getattr(self, f"pair_{name}") for name in INPUTS}
        return {name: array for name, array in given.items() if array is not None}

    def outputs(self, graph: str) -> dict[str, NDArray[np.float32]]:
        """What `encoder` or `model` must give, by name."""
        given = {name: getattr(self, name) for name in OUTPUTS[graph]}
        return {name: array for name, array in given.items() if array is not None}

    def write(self, folder: Path) -> None:
        """Write `goldens.npz`."""
        given = {name: getattr(self, name) for name in self.__struct_fields__}
        arrays = {name: array for name, array in given.items() if array is not None}
        np.savez_compressed(folder / GOLDENS, **arrays)

    @classmethod
    def read(cls, folder: Path) -> Goldens:
        """Read `goldens.npz`; raises BundleError where it is absent or not what it should be."""
        try:
            with np.load(folder / GOLDENS, allow_pickle=False) as arrays:
                named = {name: arrays[name] for name in cls.__struct_fields__ if name in arrays}
                found = cls(**named)
        except DAMAGED as error:
            raise BundleError(folder, f"{GOLDENS}: {error}") from error
        for graph in OUTPUTS:
            found._check(folder, graph)
        return found

    def _check(self, folder: Path, graph: str) -> None:
        tokens, outputs = self.tokens(graph), self.outputs(graph)
        if not tokens and not outputs:
            return
        if len({*tokens} & {*INPUTS[:2]}) < 2 or not outputs:
            raise BundleError(folder, f"{GOLDENS}: expected tokens and outputs of {graph}")
        flat = {"relevance": 1}
        arrays: dict[str, NDArray[Any]] = {**tokens, **outputs}
        shaped = all(array.ndim == flat.get(name, 2) for name, array in arrays.items())
        if not shaped or not len(tokens["input_ids"]):
            raise BundleError(folder, f"{GOLDENS}: expected tables of at least one row")
        rows = {len(array) for array in arrays.values()}
        if len(rows) > 1 or len({array.shape for array in tokens.values()}) > 1:
            raise BundleError(folder, f"{GOLDENS}: its tables are not of one length")


def read(folder: Path) -> Manifest:
    """The manifest of `folder`; raises BundleError where there is none that this code knows."""
    try:
        raw = (folder / MANIFEST).read_bytes()
        version = msgspec.json.decode(raw, type=dict[str, Any]).get("format_version")
    except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BundleError(folder, f"{MANIFEST}: {error}") from error
    if version != FORMAT_VERSION:
        raise BundleError(folder, f"format_version {version!r}, this code knows {FORMAT_VERSION}")
    try:
        return msgspec.json.decode(raw, type=Manifest)
    except msgspec.DecodeError as error:
        raise BundleError(folder, f"{MANIFEST}: {error}") from error


def read_domain(folder: Path, manifest: Manifest) -> Domain | None:
    """What the pair model learned from, where the folder says it; BundleError where it is wrong, or
    missing and the blend counts on it."""
    try:
        domain = Domain.read(folder)
    except ValueError as error:
        raise BundleError(folder, str(error)) from error
    if domain is None and manifest.blend is not None and manifest.blend.beyond is not None:
        raise BundleError(folder, f"{DOMAIN}: missing, and the blend says what stands beyond it")
    if domain is not None and (count := len(domain.items.mean)) != (known := manifest.dimensions):
        raise BundleError(folder, f"{DOMAIN}: of {count} dimensions, the manifest says {known}")
    return domain


def digest(folder: Path) -> str:
    """The name of the bundle: the hex sha256 of its manifest."""
    return sha256(folder / MANIFEST)


def verify(folder: Path, expected: str | None = None) -> Manifest:
    """Check every digest; raises BundleError that names the first file that differs."""
    manifest = read(folder)
    if expected is not None and (found := digest(folder)) != expected:
        raise BundleError(folder, f"{MANIFEST}: sha256 {found}, expected {expected}")
    for name, wanted in manifest.files.items():
        path = folder / name
        if not path.resolve().is_relative_to(folder.resolve()):
            raise BundleError(folder, f"{name}: lies outside the bundle")
        if not path.is_file():
            raise BundleError(folder, f"{name}: missing")
        if (found := sha256(path)) != wanted:
            raise BundleError(folder, f"{name}: sha256 {found}, the manifest says {wanted}")
    graphs = (path for variant in manifest.variants.values() for path in variant.graphs.values())
    beyond = () if manifest.blend is None or manifest.blend.beyond is None else (DOMAIN,)
    for name in (GOLDENS, "config.json", "tokenizer.json", *graphs, *beyond):
        if name not in manifest.files:
            raise BundleError(folder, f"{name}: not among the files of {MANIFEST}")
    check_promises(folder, manifest)
    return manifest


def check_promises(folder: Path, manifest: Manifest) -> None:
    """Hold the manifest's parts against one another and against the goldens; BundleError.

    A pair model comes with its graph in every variant, its template, its blend and its goldens, or
    with none of them; so does a category head with categories and goldens.
    """
    graphs = {frozenset(variant.graphs) for variant in manifest.variants.values()}
    if graphs not in ({frozenset({"encoder"})}, {frozenset({"encoder", "model"})}):
        found = sorted(map(sorted, graphs))
        raise BundleError(folder, f"graphs {found}: expected encoder, or encoder and model, in all")
    goldens = Goldens.read(folder)
    pairs, head = "model" in next(iter(graphs)), "category" in manifest.outputs
    for name, given, wanted in (
        ("pair_template", manifest.pair_template is not None, pairs),
        ("blend", manifest.blend is not None, pairs),
        ("outputs: relevance", "relevance" in manifest.outputs, pairs),
        ("goldens: relevance", goldens.relevance is not None, pairs),
        ("goldens: category", goldens.category is not None, head),
    ):
        if given != wanted:
            what = "missing" if wanted else "is there, and nothing gives it"
            raise BundleError(folder, f"{name}: {what}")
    if manifest.blend is not None and manifest.blend.beyond is not None:
        read_domain(folder, manifest)
    if goldens.category is not None and goldens.category.shape[1] != len(manifest.categories):
        columns, names = goldens.category.shape[1], len(manifest.categories)
        raise BundleError(folder, f"categories: {names} names, {columns} logits in the goldens")


def seal(folder: Path, manifest: Manifest) -> str:
    """Write the manifest of a finished folder, with the digest of every file in it; its name.

    Raises BundleError where the manifest does not hold together; nothing is written then.
    """
    check_promises(folder, manifest)
    names = sorted(
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and path.name != MANIFEST
    )
    sealed = msgspec.structs.replace(
        manifest, files={name: sha256(folder / name) for name in names}
    )
    encoded = msgspec.json.encode(sealed, order="deterministic")
    (folder / MANIFEST).write_bytes(msgspec.json.format(encoded, indent=1) + b"\n")
    return digest(folder)


def sha256(path: Path) -> str:
    """The hex sha256 of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
