"""What the files beside a Hugging Face model's weights say of it: pooling, length, prompts.

In: a local model folder. Out: a Source. What the export cannot reproduce is refused here.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

import msgspec
from huggingface_hub import snapshot_download

from export.bundle import BundleError, Segment, Template
from export.template import READ, segments

Pooling: TypeAlias = Literal["mean", "cls", "last"]

LONGEST: Final = 512  # tokens, where neither the tokenizer nor the model names a maximum
LEGACY_POOLING: Final = {  # sentence-transformers before 6 wrote one flag a mode
    "pooling_mode_cls_token": "cls",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
POOLINGS: Final[dict[str, Pooling]] = {"mean": "mean", "cls": "cls", "lasttoken": "last"}
FIELDS: Final = "prismrank.json"  # ours: what of an item is read; without it, READ
REQUIRED: Final = ("config.json", "tokenizer.json", "tokenizer_config.json")
FETCHED: Final = ("*.json", "*.safetensors", "*/config.json")


class Read(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What FIELDS says: a word that is not understood would be read otherwise than was meant."""

    item: tuple[Segment, ...] = ()


@dataclass(frozen=True, slots=True)
class Source:
    """A model to export: where it lies and how its authors meant it to be read."""

    name: str
    folder: Path
    weights_sha256: str
    pooling: Pooling
    pooling_is_assumed: bool
    lowercases: bool
    max_tokens: int
    template: Template


def find_base(base: str) -> tuple[Path, str]:
    """The folder and the name of a base model: a folder as it is, a hub id through the hub."""
    folder = Path(base)
    if folder.is_dir():
        return folder, folder.resolve().name
    try:
        return Path(snapshot_download(base, allow_patterns=list(FETCHED))), base
    except Exception as error:  # the hub's client raises a dozen kinds; each means: no such model
        first = str(error).strip().splitlines()[0]
        raise BundleError(base, f"neither a folder nor on the hub: {first}") from error


def read_source(folder: Path, name: str) -> Source:
    """Read the model folder; BundleError where it holds what a bundle cannot."""
    for required in REQUIRED:
        if not (folder / required).is_file():
            raise BundleError(name, f"{required}: missing from the base model")
    pooling = _pooling(folder, name)
    assumed: Pooling = "last" if _is_decoder(folder) else "mean"
    sentence = _json(folder / "sentence_bert_config.json")
    return Source(
        name=name,
        folder=folder,
        weights_sha256=weights_sha256(folder, name),
        pooling=pooling or assumed,
        pooling_is_assumed=pooling is None,
        lowercases=bool(sentence.get("do_lower_case")),
        max_tokens=max_tokens(folder),
        template=_template(folder),
    )


def weights_sha256(folder: Path, name: str) -> str:
    """Of model.safetensors; of its parts one after the other where it was cut into several."""
    parts = sorted(folder.glob("*.safetensors"))
    if not parts:
        raise BundleError(name, "no *.safetensors: weights as pickle are not loaded")
    digest = hashlib.sha256()
    for part in parts:
        with part.open("rb") as stream:
            while chunk := stream.read(1 << 20):
                digest.update(chunk)
    return digest.hexdigest()


def _pooling(folder: Path, name: str) -> Pooling | None:
    modules = _json(folder / "modules.json")
    if not modules:
        return None
    kinds = {str(module["type"]).rsplit(".", 1)[-1]: module["path"] for module in modules}
    if other := sorted(set(kinds) - {"Transformer", "Pooling", "Normalize"}):
        raise BundleError(name, f"modules.json: {', '.join(other)} cannot be exported")
    if "Pooling" not in kinds:
        raise BundleError(name, "modules.json: names no Pooling")
    config = _json(folder / kinds["Pooling"] / "config.json")
    modes = [mode for flag, mode in LEGACY_POOLING.items() if config.get(flag)]
    mode = config.get("pooling_mode", modes[0] if len(modes) == 1 else modes)
    if config.get("include_prompt") is False:
        raise BundleError(name, f"{kinds['Pooling']}: include_prompt false cannot be exported")
    if isinstance(mode, str) and mode in POOLINGS:
        return POOLINGS[mode]
    raise BundleError(
        name, f"{kinds['Pooling']}: pooling {mode}; only mean, cls and lasttoken can be exported"
    )


def _is_decoder(folder: Path) -> bool:
    names = _json(folder / "config.json").get("architectures") or ()
    return any(name.endswith("ForCausalLM") for name in names)


def max_tokens(folder: Path) -> int:
    """How many tokens the model in it reads, by what its files say of it."""
    sentence = _json(folder / "sentence_bert_config.json")
    config = _json(folder / "config.json")
    positions = config.get("max_position_embeddings", LONGEST)
    if config.get("model_type") in ("roberta", "xlm-roberta", "camembert", "mpnet"):
        positions -= config.get("pad_token_id", 1) + 1  # their positions start behind the padding's
    tokenizer = _json(folder / "tokenizer_config.json").get("model_max_length") or positions
    return int(min(sentence.get("max_seq_length") or tokenizer, positions))


def _template(folder: Path) -> Template:
    prompts = _json(folder / "config_sentence_transformers.json").get("prompts") or {}
    item = next((prompts[key] for key in ("document", "passage") if prompts.get(key)), "")
    plain = Template(
        query_before=prompts.get("query") or "", item_before=item, item=segments(READ, " | ")
    )
    try:
        read = msgspec.convert(_json(folder / FIELDS), Read)
    except msgspec.ValidationError as error:
        raise BundleError(folder, f"{FIELDS}: {error}") from error
    return msgspec.structs.replace(plain, item=read.item or plain.item)


def _json(path: Path) -> Any:
    """The content of a JSON file, empty where there is none."""
    if not path.is_file():
        return {}
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise BundleError(path.name, f"not JSON: {error}") from error
