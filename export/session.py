"""A bundle's graphs as running onnxruntime sessions, on the GPU where one really works.

Serves parity at export, judging in training and scoring in the worker; needs no torch.
"""

from __future__ import annotations

import contextlib
import ctypes
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeAlias, TypeVar

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from tokenizers import Tokenizer

from export import bundle
from export.bundle import BundleError, Goldens, Manifest, Variant
from export.domain import Domain
from export.tokenizer import PairTokenizer, PairTokens, read_tokenizer

Device: TypeAlias = str  # "auto", "cpu" or "cuda" where asked; "cpu" or "cuda" where answered
Array: TypeAlias = NDArray[Any]
Loaded = TypeVar("Loaded")

FATAL: Final = 4  # onnxruntime's log level: what goes wrong is raised here, not printed there
ROWS_PER_REPLAY: Final = 8


@dataclass(frozen=True, slots=True)
class Session:
    """The running graphs of one variant of one bundle."""

    folder: Path
    manifest: Manifest
    variant: str
    device: Device
    digest: str
    tokenizer: Tokenizer
    # A tokenizer holds its truncation as a state, so each way to cut has one of its own.
    pair_tokenizer: PairTokenizer | None
    graphs: Mapping[str, ort.InferenceSession]
    domain: Domain | None = None  # of the pair model, where the bundle says it

    def tokenize(self, texts: Sequence[str]) -> list[Sequence[int]]:
        """The token ids of each text, special tokens included, cut at the manifest's maximum."""
        return [encoding.ids for encoding in self.tokenizer.encode_batch_fast(list(texts))]

    def tokenize_pairs(self, pairs: Sequence[tuple[str, str]]) -> list[PairTokens]:
        """The tokens of each (query, item), cut at the manifest's maximum."""
        if self.pair_tokenizer is None:
            raise BundleError(self.folder, f"variant {self.variant} has no graph 'model'")
        return self.pair_tokenizer(pairs)

    def run(self, graph: str, arrays: Mapping[str, Array]) -> dict[str, Array]:
        """Run one graph. Token types are zeros unless they are given; unknown inputs are left."""
        if graph not in self.graphs:
            raise BundleError(self.folder, f"variant {self.variant} has no graph {graph!r}")
        running = self.graphs[graph]
        feeds = {
            name: arrays[name] if name in arrays else np.zeros_like(arrays["input_ids"])
            for name in (each.name for each in running.get_inputs())
        }
        names = [each.name for each in running.get_outputs()]
        return dict(zip(names, running.run(names, feeds), strict=True))


def open_session(
    folder: Path, variant: str = "fp32", device: Device = "auto", threads: int = 1
) -> Session:
    """Open a bundle (or a draft that has its manifest); BundleError says what is wrong with it."""
    manifest = bundle.read(folder)
    if variant not in manifest.variants:
        known = ", ".join(sorted(manifest.variants))
        raise BundleError(folder, f"variant {variant!r} is not among {known}")
    wanted = "cuda" if device == "cuda" or (device == "auto" and has_gpu()) else "cpu"
    graphs = {
        name: _open(folder, path, wanted, threads)
        for name, path in manifest.variants[variant].graphs.items()
    }
    _check_names(folder, manifest, graphs)
    on_gpu = all(each.get_providers()[0] == "CUDAExecutionProvider" for each in graphs.values())
    if device == "cuda" and not on_gpu:
        raise BundleError(folder, "device cuda was asked for, and no CUDA provider works here")
    return Session(
        folder=folder,
        manifest=manifest,
        variant=variant,
        device="cuda" if on_gpu else "cpu",
        digest=bundle.digest(folder),
        tokenizer=read_tokenizer(folder, manifest.max_tokens, "longest_first"),
        pair_tokenizer=PairTokenizer(folder, manifest.max_tokens) if "model" in graphs else None,
        graphs=graphs,
        domain=bundle.read_domain(folder, manifest),
    )


def replay(session: Session) -> float:
    """The largest difference from the goldens on this device, over all outputs; BundleError that
    names the output whose tolerance it passes."""
    variant: Variant = session.manifest.variants[session.variant]
    goldens = Goldens.read(session.folder)
    errors = []
    for graph in session.graphs:
        wanted = goldens.outputs(graph)
        for name, given in outputs(session, graph, goldens).items():
            error = max_error(given, wanted[name])
            tolerance = variant.logit_tolerance.get(name, variant.golden_tolerance)
            if not error <= tolerance:  # written so that NaN is refused too
                raise BundleError(
                    session.folder,
                    f"goldens differ by {error:.3g} in {name} on {session.device}, "
                    f"variant {session.variant} tolerates {tolerance:.3g}",
                )
            errors.append(error)
    return max(errors)


def outputs(session: Session, graph: str, goldens: Goldens) -> dict[str, NDArray[np.float32]]:
    """The goldens' tokens through one graph: each output [n, …] by name, in the goldens' order."""
    tokens, wanted = goldens.tokens(graph), goldens.outputs(graph)
    if missing := {each.name for each in session.graphs[graph].get_outputs()} ^ set(wanted):
        raise BundleError(session.folder, f"goldens and graph {graph} differ in {sorted(missing)}")
    lengths = tokens["attention_mask"].sum(axis=1)
    order = np.argsort(lengths, kind="stable")
    found = {name: np.full(each.shape, np.nan, np.float32) for name, each in wanted.items()}
    for start in range(0, len(order), ROWS_PER_REPLAY):
        rows = order[start : start + ROWS_PER_REPLAY]
        width = int(lengths[rows].max())
        cut = {name: array[rows, :width] for name, array in tokens.items()}
        run = partial(session.run, graph, cut)
        for name, given in _translated(session.folder, "the goldens do not run", run).items():
            if given.shape != found[name][rows].shape:
                shapes = f"{found[name][rows].shape}, the graph gives {given.shape}"
                raise BundleError(session.folder, f"{name}: goldens are {shapes}")
            found[name][rows] = given
    return found


def max_error(found: Array, wanted: Array) -> float:
    """The largest absolute difference; NaN where either holds one."""
    return float(np.abs(found.astype(np.float64) - wanted).max(initial=0.0))


def has_gpu() -> bool:
    """Whether a CUDA device answers. Asked of the driver, because onnxruntime's own attempt fails
    with a page of errors where there is none."""
    if "CUDAExecutionProvider" not in ort.get_available_providers():
        return False
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    count = ctypes.c_int()
    answers = driver.cuInit(0) == 0 and driver.cuDeviceGetCount(ctypes.byref(count)) == 0
    return bool(answers and count.value > 0)


def _open(folder: Path, path: str, device: Device, threads: int) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = FATAL
    # Spinning threads take the core that the event loop beside them needs.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    providers: list[str | tuple[str, dict[str, str]]] = ["CPUExecutionProvider"]
    if device == "cuda" and "CUDAExecutionProvider" in ort.get_available_providers():
        # TF32 keeps ten bits of the mantissa: not the float32 that the goldens were made in.
        providers.insert(0, ("CUDAExecutionProvider", {"use_tf32": "0"}))
        with contextlib.redirect_stdout(io.StringIO()):  # it prints which libraries it lacks
            ort.preload_dlls()
    return _translated(
        folder,
        path,
        lambda: ort.InferenceSession(str(folder / path), options, providers=providers),
    )


def _check_names(
    folder: Path, manifest: Manifest, graphs: Mapping[str, ort.InferenceSession]
) -> None:
    found: set[str] = set()
    for graph, running in graphs.items():
        if unknown := {each.name for each in running.get_inputs()} - set(manifest.inputs):
            raise BundleError(folder, f"graph {graph}: the manifest knows no {sorted(unknown)}")
        found |= {each.name for each in running.get_outputs()}
    if missing := set(manifest.outputs) - found:
        raise BundleError(folder, f"outputs {sorted(missing)}: no graph gives them")


def _translated(folder: Path, what: str, load: Callable[[], Loaded]) -> Loaded:
    """`load()`. onnxruntime and tokenizers raise bare Exceptions; here they become one of ours."""
    try:
        return load()
    except BundleError:
        raise
    except Exception as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise BundleError(folder, f"{what}: {first}") from error
