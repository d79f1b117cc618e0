"""How a model is fine-tuned: every dial of it, checked once. Knows no torch."""

from __future__ import annotations

from typing import Annotated, Final, Literal, TypeAlias

from msgspec import Meta, Struct

from training.adversary import Attack
from training.augment import Augment
from training.equity import Fairness
from training.sources import Replay, Teacher, Unlabelled

Loss: TypeAlias = Literal["bce", "listnet", "lambda"]
Combine: TypeAlias = Literal["sum", "chebyshev", "pareto"]
Tuning: TypeAlias = Literal[
    "full", "frozen", "lora", "dora", "rslora", "adalora", "ia3", "adapters"
]
WHOLE: Final = ("full", "frozen")  # tunings that write to the base's own weights
FULL_BITS: Final = 32  # of a weight: as float32


class Recipe(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The dials of one fine-tuning. Raises ValueError where two of them contradict each other."""

    loss: Annotated[
        Loss, Meta(description="of relevance: bce judges pairs, listnet and lambda whole lists")
    ] = "bce"
    grade_scale: Annotated[
        float,
        Meta(gt=0, description="what the grade 1 stands for in listnet's and lambda's exponents"),
    ] = 4.0
    depth: Annotated[int, Meta(ge=1, description="how many places lambda's nDCG looks at")] = 10
    teacher: Teacher = Teacher()
    replay: Replay = Replay()
    unlabelled: Unlabelled = Unlabelled()
    start: Annotated[
        Literal["base", "champion"],
        Meta(
            description="whose weights a round's pair model begins with; champion: of the bundle "
            "that serves, where it came from the same base"
        ),
    ] = "base"
    diversity_weight: Annotated[
        float, Meta(ge=0, le=1, description="a in L = a L_div + (1 - a) L_rel; 0 leaves L_div out")
    ] = 0.0
    novelty: Annotated[
        float,
        Meta(ge=0, lt=1, description="alpha of alpha-DCG: what a category loses once it was shown"),
    ] = 0.5
    temperature: Annotated[
        float,
        Meta(
            gt=0,
            description="of the soft ranks of L_div and of fairness, in logits; lower is nearer to "
            "ranks",
        ),
    ] = 0.2
    combine: Annotated[
        Combine, Meta(description="how the two objectives become one: sum, chebyshev or pareto")
    ] = "sum"

    pooling: Annotated[
        Literal["auto", "product", "mean", "cls", "last"],
        Meta(
            description="a pair's state; product: of the query's and the item's. auto: product "
            "where the base's tokens tell them apart, else as it was trained; last for causal ones"
        ),
    ] = "auto"
    layers: Annotated[
        Annotated[int, Meta(ge=1)] | None,
        Meta(
            description="of the pair model, as many of those that it begins with, evenly spread: a "
            "smaller student, which is served for less; the encoder keeps all; left out: all"
        ),
    ] = None
    tuning: Annotated[
        Tuning,
        Meta(
            description="what learns: full, frozen (the upper layers); or, beside a trunk that "
            "keeps still, the factors of lora, dora, rslora or adalora, the scales of ia3, or the "
            "layers of adapters"
        ),
    ] = "full"
    base_bits: Annotated[
        Literal[32, 8, 4],
        Meta(
            description="in which the weights of the base are held while it is read: 8 by LLM.int8,"
            " 4 by NF4, as QLoRA does; for tunings that leave the base alone, with the extra `bits`"
        ),
    ] = 32
    freeze_embeddings: Annotated[
        bool, Meta(description="the word vectors keep still, whatever else learns")
    ] = True
    frozen_layers: Annotated[
        Annotated[int, Meta(ge=0)] | None,
        Meta(description="of `frozen`, from the lowest; left out: half of them"),
    ] = None
    lora_rank: Annotated[
        int,
        Meta(ge=1, description="rank of LoRA's two factors; of adalora's in the mean, at the end"),
    ] = 16
    lora_alpha: Annotated[int, Meta(ge=1, description="LoRA's scale, times the rank")] = 32
    lora_targets: Annotated[
        tuple[str, ...],
        Meta(
            description="ends of module names; empty: every linear layer, for ia3 keys, values and "
            "the feed-forward's inner activations"
        ),
    ] = ()
    adapter_width: Annotated[
        int, Meta(ge=1, description="dimensions between an adapter's two layers")
    ] = 64

    optimiser: Annotated[Literal["adamw", "sgd"], Meta(description="sgd has momentum 0.9")] = (
        "adamw"
    )
    learning_rate: Annotated[float, Meta(gt=0, description="of the trunk, at its highest")] = 5e-5
    layer_decay: Annotated[
        float,
        Meta(gt=0, le=1, description="each layer's rate is the next higher one's times this"),
    ] = 1.0
    head_learning_rate: Annotated[float, Meta(gt=0, description="of the relevance head")] = 1e-3
    category_learning_rate: Annotated[float, Meta(gt=0, description="of the category head")] = 1e-2
    weight_decay: Annotated[
        float, Meta(ge=0, description="of matrices; biases and norms have none")
    ] = 0.01
    dropout: Annotated[
        Annotated[float, Meta(ge=0, lt=1)] | None,
        Meta(description="in the trunk; left out: as the base has it"),
    ] = None
    schedule: Annotated[
        Literal["linear", "cosine", "constant"], Meta(description="of the rates, after the warm-up")
    ] = "linear"
    warmup: Annotated[float, Meta(ge=0, lt=1, description="share of the steps, rates rising")] = 0.1
    max_grad_norm: Annotated[
        float, Meta(gt=0, description="a longer gradient is scaled down to this length")
    ] = 1.0

    average: Annotated[
        float,
        Meta(
            ge=0,
            lt=1,
            description="decay of a moving average of the weights over the steps, which is judged "
            "and kept in their place; 0: none",
        ),
    ] = 0.0
    interpolate: Annotated[
        float,
        Meta(
            ge=0,
            le=1,
            description="share of what was learned in the weights that are kept, after all else; "
            "the rest is of those that it began with",
        ),
    ] = 1.0

    epochs: Annotated[int, Meta(ge=1, description="how often every list is seen")] = 1
    max_steps: Annotated[
        Annotated[int, Meta(ge=1)] | None,
        Meta(description="the end, where the epochs do not come to it before"),
    ] = None
    pairs_per_step: Annotated[int, Meta(ge=1, description="query-item pairs in a step")] = 32
    accumulate: Annotated[
        int,
        Meta(
            ge=1,
            description="a step is read in so many parts, each with the memory of its own pairs "
            "alone; the gradients are those of the whole step; 1: at once",
        ),
    ] = 1
    max_list: Annotated[
        int, Meta(ge=1, description="longer lists are cut at random, anew each epoch")
    ] = 16
    max_tokens: Annotated[int, Meta(ge=8, description="a longer pair's item is cut")] = 128
    field_dropout: Annotated[
        float,
        Meta(
            ge=0,
            lt=1,
            description="chance that a list is read without a field (the first is kept), or "
            "without the user's past",
        ),
    ] = 0.0
    attack: Attack = Attack()
    augment: Augment = Augment()
    fairness: Fairness = Fairness()

    patience: Annotated[
        Annotated[int, Meta(ge=1)] | None,
        Meta(description="evaluations without a gain in nDCG before stopping; left out: never"),
    ] = None
    evaluate_steps: Annotated[int, Meta(ge=1, description="steps from evaluation to the next")] = (
        300
    )
    checkpoint_steps: Annotated[
        int, Meta(ge=1, description="steps from checkpoint to the next; a multiple of log_steps")
    ] = 100
    log_steps: Annotated[int, Meta(ge=1, description="steps over which a logged loss is meant")] = (
        10
    )
    report_to: Annotated[
        Literal["tensorboard", "wandb"],
        Meta(
            description="where curves go; wandb: to Weights & Biases too, where it is installed; "
            "offline, unless WANDB_MODE says otherwise"
        ),
    ] = "tensorboard"
    seed: Annotated[int, Meta(ge=0, lt=2**32, description="of all chance in it")] = 0
    precision: Annotated[
        Literal["float32", "bfloat16"], Meta(description="of the products; bfloat16 on GPUs")
    ] = "float32"
    threads: Annotated[
        Annotated[int, Meta(ge=1)] | None,
        Meta(description="of the CPU; left out: torch's own choice"),
    ] = None

    def __post_init__(self) -> None:
        if self.max_list > self.pairs_per_step:
            raise ValueError(
                f"max_list {self.max_list}: expected at most pairs_per_step {self.pairs_per_step}"
            )
        if self.accumulate > 1 and self.attack.kind != "none":
            raise ValueError(
                f"accumulate {self.accumulate}: expected 1 with attack.kind {self.attack.kind},"
                " which has to see the words of a whole step"
            )
        if self.interpolate < 1.0 and self.tuning == "adapters":
            raise ValueError(
                f"interpolate {self.interpolate}: expected 1 with tuning adapters, for the weights"
                " that it began with have none"
            )
        if self.base_bits < FULL_BITS:
            self._fits_few_bits()
        if self.average and self.tuning == "adalora":
            raise ValueError(
                f"average {self.average}: expected 0 with tuning adalora, for a mean holds what"
                " rank was taken away"
            )
        if self.checkpoint_steps % self.log_steps:
            raise ValueError(
                f"checkpoint_steps {self.checkpoint_steps}: expected a multiple of log_steps "
                f"{self.log_steps}, so that a resumed run logs the same means"
            )

    def _fits_few_bits(self) -> None:
        """Raise ValueError where something would write to weights of so few bits."""
        few = f"base_bits {self.base_bits}"
        if self.tuning in WHOLE:
            raise ValueError(
                f"{few}: expected tuning lora, dora, rslora, adalora, ia3 or adapters, not"
                f" {self.tuning}, which writes to the base's own weights"
            )
        if self.tuning == "dora" and self.base_bits == 8:
            raise ValueError("tuning dora: expected base_bits 4 or 32, for peft reads no 8 anew")
        if self.start != "base":
            raise ValueError(
                f"start {self.start}: expected base with {few}, for it is the base's own files that"
                " are quantised"
            )
        if self.interpolate < 1.0:
            raise ValueError(f"interpolate {self.interpolate}: expected 1 with {few}")
