"""A peft adapter becomes the pair model that it was, merged; one without a head is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForSequenceClassification

from export import bundle
from export.__main__ import main
from export.bundle import BundleError
from export.graded import relevance
from export.models import PairModel
from export.onnx import load_trunk
from export.session import open_session
from export.source import read_source
from export.trained import read_trained
from tests.export.models import save_base


def adapted(model: torch.nn.Module, folder: Path, head: str | None, **config: Any) -> Any:
    """The model with a LoRA adapter that does something, saved; still unmerged."""
    targets = ["query", "value"] if any("query" in n for n, _ in model.named_modules()) else None
    lora = LoraConfig(
        r=2,
        target_modules=targets or ["q_proj", "v_proj"],
        init_lora_weights=False,
        modules_to_save=None if head is None else [head],
        **config,
    )
    torch.manual_seed(5)
    wrapped = get_peft_model(model, lora)
    for name, weight in wrapped.named_parameters():
        if "modules_to_save" in name:
            torch.nn.init.normal_(weight)
    wrapped.save_pretrained(str(folder))
    return wrapped.eval()


def row(count: int = 9) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens."""
    ids = torch.arange(4, 4 + count).unsqueeze(0)
    return ids, torch.ones_like(ids)


def test_an_adapter_of_the_pair_model_is_merged(small_base: Path, tmp_path: Path) -> None:
    source = read_source(small_base, "base")
    wrapped = adapted(PairModel(load_trunk(source), source.pooling), tmp_path / "a", "head")
    merged = read_trained(tmp_path / "a", source)
    with torch.inference_mode():
        wanted = wrapped(*row())
        found = merged.pair_model(*row())
    assert found == pytest.approx(wanted, abs=1e-5)
    assert merged.head is None
    plain = PairModel(load_trunk(source), source.pooling).eval()
    plain.head = merged.pair_model.head
    with torch.inference_mode():
        assert plain(*row()) != pytest.approx(wanted, abs=1e-3)


def classifier(base: Path) -> Any:
    """A sequence classifier of one label on a base."""
    return AutoModelForSequenceClassification.from_pretrained(base, num_labels=1)


def test_an_adapter_of_a_decoders_classifier_is_merged_with_its_head(tmp_path: Path) -> None:
    base = save_base(tmp_path / "base", "qwen3", "lasttoken")
    wrapped = adapted(classifier(base), tmp_path / "a", "score", task_type="SEQ_CLS")
    merged = read_trained(tmp_path / "a", read_source(base, "base"))
    ids, mask = row()
    with torch.inference_mode():
        wanted = wrapped(input_ids=ids, attention_mask=mask).logits[:, 0]
        assert merged.pair_model(ids, mask) == pytest.approx(wanted, abs=1e-4)
    assert merged.pair_model.pooling == "last"
    assert merged.pair_template.query_before == "Query: "


def test_a_classifier_whose_head_is_more_than_linear_is_refused(
    small_base: Path, tmp_path: Path
) -> None:
    adapted(classifier(small_base), tmp_path / "a", "classifier", task_type="SEQ_CLS")
    with pytest.raises(BundleError, match="not a linear head on the cls token"):
        read_trained(tmp_path / "a", read_source(small_base, "base"))


def test_an_adapter_without_a_relevance_head_is_refused(small_base: Path, tmp_path: Path) -> None:
    source = read_source(small_base, "base")
    adapted(load_trunk(source), tmp_path / "a", None, task_type="FEATURE_EXTRACTION")
    with pytest.raises(BundleError, match="carries no relevance head"):
        read_trained(tmp_path / "a", source)


def test_an_adapter_of_another_base_is_refused(small_base: Path, tmp_path: Path) -> None:
    source = read_source(small_base, "base")
    adapted(PairModel(load_trunk(source), source.pooling), tmp_path / "a", "head")
    other = save_base(tmp_path / "other", "distilbert", "cls")
    with pytest.raises(BundleError, match="the adapter does not fit its base"):
        read_trained(tmp_path / "a", read_source(other, "other"))


def test_build_takes_an_adapter_and_writes_a_verified_bundle(
    small_base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = read_source(small_base, "base")
    wrapped = adapted(PairModel(load_trunk(source), source.pooling), tmp_path / "a", "head")
    options = ["--adapter", str(tmp_path / "a"), "--out", str(tmp_path / "out")]
    assert main(["build", "--base", str(small_base), *options]) == 0
    manifest = bundle.verify(tmp_path / "out")
    assert manifest.outputs == ("vector", "relevance")
    session = open_session(tmp_path / "out", device="cpu")
    pair = session.tokenize_pairs([("shoe", "red shoe")])[0]
    ids = torch.tensor([pair.ids])
    with torch.inference_mode():
        wanted = wrapped(ids, torch.ones_like(ids), torch.tensor([pair.types]))
    found = relevance(session, [("shoe", "red shoe")])
    assert found == pytest.approx(wanted.numpy(), abs=1e-4)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "out"]
