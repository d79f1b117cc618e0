"""Another language needs no code: base model, text template and categories are settings.

Chinese end to end, from human labels to the worker's lists; the base is small and random, its
tokenizer learned from the labelled texts, one token a character.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from tokenizers import Regex, Tokenizer
from tokenizers.models import WordLevel
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import Split
from tokenizers.processors import TemplateProcessing
from tokenizers.trainers import WordLevelTrainer
from transformers import BertConfig, BertModel

from export import bundle
from tests.conftest import ROOT
from training.__main__ import main

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
CATEGORIES = ("下载", "图片", "小说", "手机", "游戏", "视频")
HIGHEST = 2  # of the set's labels
CONFIG = """
work = "{folder}/work"

[model]
base = "{folder}/base"
fields = ["category", "title"]
separator = "："
query_before = "查询："
item_before = "网页："
smallest_category = 5

[logs]
url = "{folder}/logs"

[recipe]
max_steps = 12
max_tokens = 48
threads = 1
"""


@dataclass(frozen=True)
class Made:
    """A bundle that learned from Chinese labels, and searches that it has not seen."""

    bundle: Path
    searches: list[dict[str, Any]]


def searches(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Pairs by query, those of two or more titles first; the category is a word of the title."""

    def query(row: dict[str, Any]) -> str:
        return str(row["query"])

    found = []
    for text, pairs in groupby(sorted(rows, key=query), key=query):
        candidates = [
            {
                "item_id": str(row["id"]),
                "title": row["title"],
                "category": next((name for name in CATEGORIES if name in row["title"]), None),
                "grade": row["label"] / HIGHEST,
            }
            for row in pairs
        ]
        found.append({"query_id": text, "user_query": text, "candidates": candidates})
    return sorted(found, key=lambda search: -len(search["candidates"]))


def save_base(folder: Path, texts: list[str]) -> None:
    """A random BERT that knows the characters of `texts`."""
    torch.manual_seed(7)
    tokenizer = Tokenizer(WordLevel(unk_token="[UNK]"))
    tokenizer.normalizer = BertNormalizer(handle_chinese_chars=False)
    tokenizer.pre_tokenizer = Split(Regex("."), "isolated")
    tokenizer.train_from_iterator(
        texts, WordLevelTrainer(vocab_size=4_000, special_tokens=SPECIAL, show_progress=False)
    )
    marks = {name: tokenizer.token_to_id(name) for name in ("[CLS]", "[SEP]")}
    tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=list(marks.items()),
    )
    shape = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = BertConfig(
        vocab_size=tokenizer.get_vocab_size(),
        **shape,
        intermediate_size=64,
        max_position_embeddings=64,
        initializer_range=0.3,  # larger than usual: so texts differ
    )
    BertModel(config).save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"model_max_length": 48}))


@pytest.fixture(scope="module")
def made(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Made:
    path = data / "qbqtc_zh" / "pairs.parquet"
    if not path.is_file():
        pytest.skip(f"no Chinese labels in {path}")
    folder = tmp_path_factory.mktemp("chinese")
    rows = pq.read_table(path).to_pylist()
    train = [row for row in rows if row["split"] == "train"]
    save_base(folder / "base", [row[name] for row in train for name in ("query", "title")])
    labels = searches(train)
    lines = [json.dumps(one, ensure_ascii=False) for one in (*labels[:500], *labels[-100:])]
    (folder / "labels.jsonl").write_text("\n".join(lines), encoding="utf-8")
    (folder / "training.toml").write_text(CONFIG.format(folder=folder), encoding="utf-8")
    run = ["run", str(folder / "training.toml"), "--judgments", str(folder / "labels.jsonl")]
    assert main([*run, "--out", str(folder / "bundle")]) == 0
    unseen = searches([row for row in rows if row["split"] == "dev"])[:40]
    return Made(folder / "bundle", unseen)


def rerank(made: Made, *flags: str) -> list[dict[str, Any]]:
    """The worker's own command on a pipe, fed with UTF-8."""
    lines = [json.dumps(one, ensure_ascii=False).encode() for one in made.searches]
    done = subprocess.run(
        [sys.executable, "-m", "worker", "rerank", "--bundle", str(made.bundle), *flags],
        input=b"\n".join(lines),
        cwd=ROOT,
        env=os.environ | {"PRISMRANK_THREADS": "1"},
        capture_output=True,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_labels_and_a_configuration_make_a_chinese_bundle(made: Made) -> None:
    manifest = bundle.verify(made.bundle)
    assert manifest.pair_template is not None
    assert manifest.pair_template.query("手机") == "查询：手机"
    shown = manifest.pair_template.render({"category": "手机", "title": "国产手机排行榜"})
    assert shown == "网页：手机：国产手机排行榜"
    assert set(manifest.categories) <= set(CATEGORIES)
    assert len(manifest.categories) >= 2
    assert {"vector", "category", "relevance"} == set(manifest.outputs)


def test_the_tokenizer_in_the_bundle_reads_chinese_character_by_character(made: Made) -> None:
    tokenizer = Tokenizer.from_file(str(made.bundle / "tokenizer.json"))
    tokens = tokenizer.encode("国产手机排行榜2014").tokens
    assert tokens == ["[CLS]", *"国产手机排行榜2014", "[SEP]"]
    titles = [item["title"] for one in made.searches for item in one["candidates"]]
    read = [token for title in titles for token in tokenizer.encode(title).tokens]
    assert read.count("[UNK]") < 0.01 * len(read)


def test_the_worker_answers_chinese_searches_with_it(made: Made) -> None:
    lists = rerank(made, "--diversity", "0")
    assert [ranked["user_query"] for ranked in lists] == [
        one["user_query"] for one in made.searches
    ]
    digest = bundle.digest(made.bundle)
    assert np.mean([ranked["pair_share"] > 0.0 for ranked in lists]) > 0.5
    for search, ranked in zip(made.searches, lists, strict=True):
        assert (ranked["model"], ranked["degraded"]) == (digest, False)
        assert ranked["pair_count"] == len(search["candidates"]) * (ranked["pair_share"] > 0.0)
        given = {item["item_id"] for item in search["candidates"]}
        assert {item["item_id"] for item in ranked["items"]} == given
        relevance = [item["relevance"] for item in ranked["items"]]
        assert relevance == sorted(relevance, reverse=True)
    distinct = {item["relevance"] for ranked in lists for item in ranked["items"]}
    assert len(distinct) > len(lists), "the model tells titles apart"


def test_a_rule_speaks_for_a_chinese_query(made: Made, tmp_path: Path) -> None:
    search = made.searches[0]
    last = rerank(made)[0]["items"][-1]["item_id"]
    rule = {
        "rule_id": "置顶",
        "action": "pin",
        "match": {"query": search["user_query"], "mode": "exact"},
        "item_ids": [last],
        "position": 1,
    }
    (tmp_path / "rules.jsonl").write_text(json.dumps(rule), encoding="utf-8")
    ranked = rerank(made, "--rules", str(tmp_path / "rules.jsonl"))[0]
    assert (ranked["items"][0]["item_id"], ranked["rules_applied"]) == (last, ["置顶"])
