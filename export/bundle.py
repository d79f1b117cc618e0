"""The contract between training and worker: what a bundle's folder holds, and what its words mean.

A bundle is immutable and named by the hex sha256 of its `manifest.json`, which names the sha256 of
every other file. This module reads, checks and writes that folder; it knows neither torch nor
onnxruntime.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal
from zipfile import BadZipFile

import msgspec
import numpy as np
from msgspec import Meta, Struct
from numpy.typing import NDArray

FORMAT_VERSION: Final = 1
MANIFEST: Final = "manifest.json"
GOLDENS: Final = "goldens.npz"


class BundleError(Exception):
    """A folder is not a bundle that may serve. Who asked keeps the model that they have."""

    def __init__(self, where: Path | str, why: str) -> None:
        super().__init__(f"bundle {where} refused: {why}")
        self.why = why


class Segment(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One field of an item as text: `before` + value + `after`, or nothing where it is absent."""

    field: str
    before: str = ""
    after: str = ""


class Template(Struct, frozen=True, kw_only=True):
    """How words reach the model. Training and serving both render through here."""

    query_before: str = ""
    item_before: str = ""
    item: tuple[Segment, ...] = (Segment(field="title"),)

    def query(self, user_query: str) -> str:
        """The text of a query."""
        return self.query_before + user_query

    def render(self, fields: Mapping[str, Any]) -> str:
        """The text of an item: its fields by name; absent (None or blank) ones give nothing.

        >>> Template(item=(Segment(field="title"), Segment(field="brand", before=" by "))).render(
        ...     {"title": "Trail shoe", "brand": "Acme"})
        'Trail shoe by Acme'
        """
        parts = [
            segment.before + str(value) + segment.after
            for segment in self.item
            if (value := fields.get(segment.field)) is not None and str(value).strip()
        ]
        return self.item_before + "".join(parts)


class Calibration(Struct, frozen=True, kw_only=True):
    """P(relevant) = 1 / (1 + exp(-(slope * cosine + intercept))) (Platt 1999, section 2)."""

    slope: Annotated[float, Meta(gt=0)]
    intercept: float
    origin: str


class Variant(Struct, frozen=True, kw_only=True):
    """One precision of the graphs: where they lie, and how near to the trained model they came."""

    graphs: dict[str, str]
    golden_tolerance: Annotated[float, Meta(gt=0, le=0.5)]
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
    variants: dict[str, Variant]
    files: dict[str, str]
    training: dict[str, Any] | None = None
    report: str | None = None


class Goldens(Struct, frozen=True, kw_only=True):
    """Token arrays [n, s] (int64) and the vectors [n, d] (float32) that the model gave for them."""

    input_ids: NDArray[np.int64]
    attention_mask: NDArray[np.int64]
    vector: NDArray[np.float32]

    def write(self, folder: Path) -> None:
        """Write `goldens.npz`."""
        arrays = {name: getattr(self, name) for name in self.__struct_fields__}
        np.savez_compressed(folder / GOLDENS, **arrays)

    @classmethod
    def read(cls, folder: Path) -> Goldens:
        """Read `goldens.npz`; raises BundleError where it is absent or not what it should be."""
        try:
            with np.load(folder / GOLDENS, allow_pickle=False) as arrays:
                found = cls(**{name: arrays[name] for name in cls.__struct_fields__})
        except (OSError, KeyError, ValueError, EOFError, BadZipFile) as error:
            raise BundleError(folder, f"{GOLDENS}: {error}") from error
        rows = len(found.vector)
        if not rows or any(getattr(found, name).ndim != 2 for name in cls.__struct_fields__):
            raise BundleError(folder, f"{GOLDENS}: expected tables of at least one row")
        if found.input_ids.shape != found.attention_mask.shape or len(found.input_ids) != rows:
            raise BundleError(folder, f"{GOLDENS}: its tables are not of one length")
        return found


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
    for name in (GOLDENS, "config.json", "tokenizer.json", *graphs):
        if name not in manifest.files:
            raise BundleError(folder, f"{name}: not among the files of {MANIFEST}")
    return manifest


def seal(folder: Path, manifest: Manifest) -> str:
    """Write the manifest of a finished folder, with the digest of every file in it; its name."""
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
