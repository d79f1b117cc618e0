"""The float32 graph in fewer bits, and what each precision must still reach. No torch."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import onnx
from onnxruntime.quantization import QuantType, quantize_dynamic
from onnxruntime.transformers.float16 import DEFAULT_OP_BLOCK_LIST, convert_float_to_float16


@dataclass(frozen=True, slots=True)
class Precision:
    """A variant: how it is made of the float32 graph, and the bounds that refuse it.

    `max_error` and `min_cosine` of the vectors, and `max_logit_error` (in shares of the goldens'
    spread) and `min_spearman` of the logits, hold at export on the CPU; the tolerances have head
    room for other devices, whose kernels add up in another order.
    """

    suffix: str
    max_error: float
    min_cosine: float
    golden_tolerance: float
    convert: Callable[[Path, Path], None] | None
    max_logit_error: float
    min_spearman: float
    logit_tolerance: float


def to_fp16(source: Path, target: Path) -> None:
    """Half precision up to the last layer; pooling and unit length in float32, since a vector's
    length, and with it every cosine, would be off by up to 4e-4."""
    half = convert_float_to_float16(
        onnx.load(source),
        keep_io_types=True,
        op_block_list=[*DEFAULT_OP_BLOCK_LIST, "ReduceSum", "ReduceL2", "Div"],
    )
    _drop_repeated_casts(half.graph)
    onnx.save(half, target)


def _drop_repeated_casts(graph: onnx.GraphProto) -> None:
    """Where two float32 operators read one value, the converter writes the same cast twice."""
    seen: set[str] = set()
    for node in list(graph.node):
        if node.op_type == "Cast" and node.output[0] in seen:
            graph.node.remove(node)
        seen.update(node.output)


def to_int8(source: Path, target: Path) -> None:
    """Signed 8-bit weights per channel, activations quantised as they come.

    Chosen over MatMulNBits (8-bit weights alone) on all-MiniLM-L6-v2 with one thread: 1.3 to 1.4
    times as fast as float32, where MatMulNBits was .6 to .8 times as fast. nDCG@10 on Crowdflower
    (106 queries) .8805, float32 .8798, MatMulNBits .8786 to .8798; on Chorus (75) .8365, .8393,
    .8359 to .8379. The price: activation scales are per tensor, so a row moves with its batch,
    which MatMulNBits rows did not. Embeddings, norms, pooling and heads stay in float.
    """
    with _without_root_log():
        quantize_dynamic(
            source,
            target,
            per_channel=True,
            weight_type=QuantType.QInt8,
            op_types_to_quantize=["MatMul", "Attention"],
            nodes_to_exclude=_heads(onnx.load(source, load_external_data=False).graph),
            # the fused operators have no inferred type; without this the quantiser gives up
            extra_options={"DefaultTensorType": onnx.TensorProto.FLOAT},
        )


def _heads(graph: onnx.GraphProto) -> list[str]:
    """The products that a logit is made of, after the last layer: between a `category` output and
    the vector. (The head of `relevance` is a sum, and no product.)"""
    made_by = {output: node for node in graph.node for output in node.output}
    outputs = {each.name for each in graph.output}
    names, waiting = [], ["category"] if "category" in outputs else []
    while waiting:
        node = made_by.get(waiting.pop())
        if node is None:
            continue
        if node.op_type == "MatMul":
            names.append(node.name)
        else:
            waiting.extend(name for name in node.input if name not in outputs)
    return names


PRECISIONS: Final[Mapping[str, Precision]] = {
    "fp32": Precision("", 1e-5, 0.99999, 1e-4, None, 1e-5, 0.999, 1e-4),
    "fp16": Precision("_fp16", 5e-3, 0.999, 1e-2, to_fp16, 1e-2, 0.98, 2e-2),
    "int8": Precision("_int8", 0.1, 0.95, 0.15, to_int8, 0.25, 0.8, 0.4),
}


@contextlib.contextmanager
def _without_root_log() -> Iterator[None]:
    """The quantiser asks on the root logger for a pre-processing that fails on fused graphs."""
    root = logging.getLogger()
    disabled = root.disabled
    root.disabled = True
    try:
        yield
    finally:
        root.disabled = disabled
