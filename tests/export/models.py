"""Small random models of five families, and small bundles without a graph, for tests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Regex, Tokenizer
from tokenizers.models import WordLevel
from tokenizers.normalizers import Lowercase
from tokenizers.pre_tokenizers import Split
from tokenizers.processors import TemplateProcessing
from transformers import (
    AutoModel,
    BertConfig,
    BertModel,
    DistilBertConfig,
    DistilBertModel,
    LlamaConfig,
    LlamaModel,
    Qwen3Config,
    Qwen3Model,
    RobertaConfig,
    RobertaModel,
)

from export import bundle
from export.bundle import Calibration, Goldens, Manifest, Template, Variant
from export.models import PairModel
from export.trained import Trained

LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789 -.,"
SPECIAL = ("[CLS]", "[PAD]", "[SEP]", "[UNK]")
DECODERS: dict[str, tuple[Any, Any]] = {
    "qwen3": (Qwen3Config, Qwen3Model),
    "llama": (LlamaConfig, LlamaModel),
}
SMALL = {"vocab_size": len(LETTERS) + len(SPECIAL), "pad_token_id": 1}


def save_base(
    folder: Path, family: str, pooling: str | None = "mean", width: int = 32, **files: Any
) -> Path:
    """A random base model of `family` ("bert", "roberta", "distilbert", "qwen3", "llama") with its
    files beside it; `files` are more of them, by name without .json."""
    torch.manual_seed(7)
    make_model(family, width).save_pretrained(folder)
    (decoder_tokenizer() if family in DECODERS else tokenizer()).save(
        str(folder / "tokenizer.json")
    )
    contents: dict[str, Any] = {"tokenizer_config": {"model_max_length": 40}}
    if pooling is not None:
        kinds = {"": "Transformer", "1_Pooling": "Pooling", "2_Normalize": "Normalize"}
        contents["modules"] = [
            {"type": f"sentence_transformers.models.{kind}", "path": path}
            for path, kind in kinds.items()
        ]
        (folder / "1_Pooling").mkdir()
        contents["1_Pooling/config"] = {"pooling_mode": pooling}
    for name, content in {**contents, **files}.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    return folder


def make_model(family: str, width: int = 32) -> Any:
    """One or two layers of `width`; the weights are larger than usual: so texts differ."""
    if family == "distilbert":
        distil = DistilBertConfig(
            **SMALL,
            dim=width,
            n_layers=2,
            n_heads=2,
            hidden_dim=2 * width,
            max_position_embeddings=64,
        )
        return DistilBertModel(distil)
    sizes = {"hidden_size": width, "num_hidden_layers": 2, "num_attention_heads": 2}
    shape = {**SMALL, **sizes, "intermediate_size": 2 * width, "initializer_range": 0.3}
    if family in DECODERS:
        # One layer: a decoder's graph takes long to export. Heads of 8 are what fused
        # attention cannot run.
        size = width // 4 if family == "llama" else width // 2
        heads = {"num_hidden_layers": 1, "num_key_value_heads": 1, "head_dim": size}
        config, model = DECODERS[family]
        return model(config(**{**shape, **heads}, max_position_embeddings=64))
    if family == "roberta":
        return RobertaModel(RobertaConfig(**shape, max_position_embeddings=66, type_vocab_size=1))
    return BertModel(BertConfig(**shape, max_position_embeddings=64))


def tokenizer() -> Tokenizer:
    """One token a letter, between [CLS] and [SEP]."""
    vocabulary = {word: index for index, word in enumerate([*SPECIAL, *LETTERS])}
    made = Tokenizer(WordLevel(vocabulary, unk_token="[UNK]"))
    made.normalizer = Lowercase()
    made.pre_tokenizer = Split(Regex("."), "isolated")
    made.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 0), ("[SEP]", 2)],
    )
    return made


def decoder_tokenizer() -> Tokenizer:
    """One token a letter, the two texts run on, and [SEP] at the end, as Qwen3-Embedding has it."""
    made = tokenizer()
    made.post_processor = TemplateProcessing(
        single="$A [SEP]", pair="$A $B [SEP]", special_tokens=[("[SEP]", 2)]
    )
    return made


def save_trained(
    folder: Path, base: Path, pooling: str, categories: tuple[str, ...] = (), seed: int = 11
) -> Path:
    """What training leaves: the base with other weights, a pair head, and a category head."""
    torch.manual_seed(seed)
    trunk = AutoModel.from_pretrained(base)
    with torch.no_grad():
        for weight in trunk.parameters():
            weight.add_(0.05 * torch.randn_like(weight))
    pair_model = PairModel(trunk, pooling)  # type: ignore[arg-type]  # a test's literal
    torch.nn.init.normal_(pair_model.head.weight)
    head = torch.nn.Linear(trunk.config.hidden_size, len(categories)) if categories else None
    Trained(pair_model, head, categories).save(folder)
    return folder


def manifest(**fields: Any) -> Manifest:
    """A manifest; say what matters."""
    variant = Variant(
        graphs={"encoder": "onnx/encoder.onnx"},
        golden_tolerance=1e-4,
        parity={"max_abs_error": 0.0, "min_cosine": 1.0},
        deterministic=True,
    )
    plausible = Manifest(
        format_version=bundle.FORMAT_VERSION,
        task="rank",
        base_model={"name": "small", "weights_sha256": "0" * 64},
        parent=None,
        inputs=("input_ids", "attention_mask"),
        outputs=("vector",),
        dimensions=2,
        max_tokens=8,
        template=Template(),
        categories=(),
        calibration=Calibration(slope=1.0, intercept=0.0, origin="a test"),
        variants={"fp32": variant},
        files={},
    )
    values = {name: getattr(plausible, name) for name in Manifest.__struct_fields__}
    return Manifest(**{**values, **fields})


def save_sealed(folder: Path, note: str = "one") -> str:
    """A sealed folder whose graph is no graph: enough for whoever does not run it. Its digest."""
    (folder / "onnx").mkdir(parents=True)
    (folder / "onnx/encoder.onnx").write_bytes(b"no graph: " + note.encode())
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        (folder / name).write_text("{}")
    (folder / "README.md").write_text(f"# {note}\n")
    tokens = np.ones((1, 2), dtype=np.int64)
    vector = np.array([[0.6, 0.8]], dtype=np.float32)
    Goldens(input_ids=tokens, attention_mask=tokens, vector=vector).write(folder)
    return bundle.seal(folder, manifest())
