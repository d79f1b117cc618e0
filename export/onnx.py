"""Torch models -> ONNX graphs, and the goldens that prove them the same."""

from __future__ import annotations

import contextlib
import inspect
import logging
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import onnx_ir
import torch
from numpy.typing import NDArray
from onnxscript.optimizer import optimize
from onnxscript.rewriter.ort_fusions import optimize_for_ort
from onnxscript.rewriter.ort_fusions.rms_normalization import fuse_rms_normalization
from onnxscript.rewriter.ort_fusions.skip_normalization import fuse_skip_rms_normalization
from transformers import AutoModel, PreTrainedModel
from transformers.utils import logging as transformers_logging

from export.bundle import BundleError, Goldens
from export.models import Encoder, PairModel, is_causal
from export.source import Source
from export.tokenizer import PairTokens

# Opset 20 and onnxscript's fusions: as fast on the CPU as opset 23's native Attention (both within
# the noise of the graph as exported), its fused Attention runs on CUDA in every onnxruntime of
# today, and it is the form that quantises.
OPSET: Final = 20


def load_trunk(source: Source, **how: Any) -> PreTrainedModel:
    """The base model in float32, ready to be exported; BundleError where it cannot be loaded.

    `how` are more of transformers' own arguments for loading it.
    """
    with quiet():
        try:
            model = AutoModel.from_pretrained(
                source.folder,
                local_files_only=True,
                use_safetensors=True,
                dtype=torch.float32,
                **how,
            )
        except (OSError, ValueError, KeyError) as error:
            first = str(error).strip().splitlines()[0]
            raise BundleError(source.name, f"transformers cannot load it: {first}") from error
    if model.config.is_encoder_decoder:
        raise BundleError(source.name, "an encoder-decoder model is not a text encoder")
    loaded: PreTrainedModel = model.eval()
    return loaded


def input_names(trunk: PreTrainedModel) -> tuple[str, ...]:
    """The inputs that the model has; token types only where it knows more than one."""
    takes_types = "token_type_ids" in inspect.signature(trunk.forward).parameters
    if takes_types and getattr(trunk.config, "type_vocab_size", 1) > 1:
        return ("input_ids", "attention_mask", "token_type_ids")
    return ("input_ids", "attention_mask")


def to_onnx(model: Encoder | PairModel, path: Path) -> None:
    """Write the float32 graph, with dynamic batch and sequence."""
    pairs = isinstance(model, PairModel)
    trunk = model.trunk if isinstance(model, PairModel) else model.model
    names = input_names(trunk)
    # One tensor each: torch takes a tensor that stands for two inputs to be one and the same input.
    example = tuple(torch.full((3, 7), int("type" not in name)) for name in names)
    axes = {0: torch.export.Dim("batch"), 1: torch.export.Dim("sequence")}
    with quiet():
        program = torch.onnx.export(
            model.eval(),  # on the outermost module: with dropout on anywhere, parity fails at 1e-2
            example,
            dynamo=True,
            opset_version=OPSET,
            input_names=list(names),
            output_names=["relevance"] if pairs else ["vector", "category"][: 1 + _headed(model)],
            dynamic_shapes={name: axes for name in names},
            verbose=False,
        )
        assert program is not None, "dynamo=True gives a program: this is a bug"
        fused = _fused(program.model, is_causal(trunk))
    _forget_origin(fused)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx_ir.save(fused, path)


def _headed(model: Encoder | PairModel) -> bool:
    return isinstance(model, Encoder) and model.head is not None


def _fused(model: onnx_ir.Model, causal: bool) -> onnx_ir.Model:
    """The graph in onnxruntime's own operators.

    A decoder's attention is left as plain products: fused, it becomes GroupQueryAttention, which
    wants heads of a multiple of 16 and whose flash kernel changed a row of 33 tokens under padding.
    """
    if not causal:
        return optimize_for_ort(model)[0]
    fuse_rms_normalization(model)
    fuse_skip_rms_normalization(model)
    optimize(model)
    return model


def _forget_origin(model: onnx_ir.Model) -> None:
    """Drop the exporter's notes, which hold stack traces with the paths of this machine."""
    model.metadata_props.clear()
    model.graph.metadata_props.clear()
    for node in model.graph.all_nodes():
        node.metadata_props.clear()
        node.doc_string = None
        for value in node.outputs:
            value.metadata_props.clear()


@torch.inference_mode()
def make_goldens(
    encoder: Encoder,
    tokens: Sequence[Sequence[int]],
    pair_model: PairModel | None = None,
    pair_tokens: Sequence[PairTokens] = (),
) -> Goldens:
    """What the trained models themselves give for these texts and pairs, one by one, unpadded."""
    input_ids, attention_mask = _table(tokens), _table([[1] * len(ids) for ids in tokens])
    texts = [encoder.eval()(*_row(ids)) for ids in tokens]
    vector, *category = (torch.cat(parts).numpy() for parts in zip(*texts, strict=True))
    goldens = Goldens(
        input_ids=input_ids,
        attention_mask=attention_mask,
        vector=vector,
        category=category[0] if category else None,
    )
    if pair_model is None:
        return goldens
    typed = "token_type_ids" in input_names(pair_model.trunk)
    logits = [
        pair_model.eval()(*_row(pair.ids), *([torch.tensor([pair.types])] if typed else []))
        for pair in pair_tokens
    ]
    return msgspec.structs.replace(
        goldens,
        pair_input_ids=_table([pair.ids for pair in pair_tokens]),
        pair_attention_mask=_table([[1] * len(pair.ids) for pair in pair_tokens]),
        pair_token_type_ids=_table([pair.types for pair in pair_tokens]),
        relevance=torch.cat(logits).numpy(),
    )


def _row(ids: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
    row = torch.tensor([ids])
    return row, torch.ones_like(row)


def _table(rows: Sequence[Sequence[int]]) -> NDArray[np.int64]:
    """[n, s], padded with zeros on the right."""
    table = np.zeros((len(rows), max(map(len, rows))), dtype=np.int64)
    for row, values in enumerate(rows):
        table[row, : len(values)] = values
    return table


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without the chatter of loading and exporting, all of it known and harmless."""
    registration = logging.getLogger("torch.onnx._internal.exporter._registration")
    level = registration.level
    registration.setLevel(logging.ERROR)  # "torchvision is not installed"
    transformers_logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            # torch 2.13 calls its own deprecated pytree names, and copyreg is where that surfaces
            warnings.filterwarnings("ignore", r".*LeafSpec", FutureWarning)
            # every input has the same two axes, so all names but the first go unused, as meant
            warnings.filterwarnings("ignore", r"# The axis name", UserWarning)
            yield
    finally:
        registration.setLevel(level)
        transformers_logging.enable_progress_bar()
