"""Every dial of the worker in one frozen struct, read once from the environment (PRISMRANK_*).

The README's table is generated from here, and a test holds them together.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Final, Literal, get_type_hints

import msgspec
from msgspec import Meta, Struct

from export.registry import ALIAS
from worker.codec import Limits
from worker.errors import BadSetting
from worker.policies import TEXTS, Group
from worker.ranking.diversify import METHODS
from worker.ranking.join import Dials
from worker.ranking.model import TokenBudget

PREFIX: Final = "PRISMRANK_"
LOOPBACK: Final = ("127.0.0.1", "::1", "localhost")


class Settings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The worker's settings. Two suffice: `kafka` and `registry`."""

    kafka: Annotated[str, Meta(min_length=1, description="bootstrap servers, comma-separated")] = (
        "127.0.0.1:9092"
    )
    registry: Annotated[str, Meta(description="folder or fsspec URL of the bundle registry")] = (
        ".prismrank/registry"
    )
    alias: Annotated[str, Meta(description="alias of the bundle that is served")] = "live"
    challenger: Annotated[
        str, Meta(description="alias of a bundle that is tried beside the live one; empty: none")
    ] = ""
    challenger_share: Annotated[
        float,
        Meta(
            ge=0,
            le=0.5,
            description="share of users whose lists the challenger makes; at most half, for it is "
            "held against the others",
        ),
    ] = 0.0
    challenger_shadow: Annotated[
        float,
        Meta(ge=0, le=1, description="share of the other searches that it scores too, silently"),
    ] = 0.0
    challenger_group: Annotated[
        str,
        Meta(
            description="field=value of items that must keep their first places in its silent lists"
        ),
    ] = ""
    challenger_drift: Annotated[
        float,
        Meta(
            ge=0,
            le=1,
            description="most that the mean relevance of the first places may move in its silent "
            "lists; 1: any",
        ),
    ] = 1.0
    variant: Annotated[str, Meta(description="precision of the graphs: fp32, fp16 or int8")] = (
        "fp32"
    )
    device: Annotated[
        Literal["auto", "cpu", "cuda"],
        Meta(description="where the model runs; auto takes CUDA where its provider works"),
    ] = "auto"
    threads: Annotated[int, Meta(ge=1, description="onnxruntime threads; 1 repeats bit by bit")] = 1
    group: Annotated[str, Meta(description="consumer group, and Faust's application id")] = (
        "prismrank"
    )
    topic_prefix: Annotated[str, Meta(description="goes before every topic's name")] = ""
    catalogue: Annotated[
        Literal["topic", "none"],
        Meta(description="none: events carry every field and `items` is not read"),
    ] = "topic"
    profiles: Annotated[
        Literal["table", "event", "off"],
        Meta(
            description="where a user's history comes from: the profiles table, the event, nowhere"
        ),
    ] = "table"
    diversity: Annotated[
        float, Meta(ge=0, le=1, description="the dial, where neither event nor policy sets it")
    ] = 0.2
    method: Annotated[str, Meta(description="diversifier, where no policy names one")] = "facets"
    engine_weight: Annotated[
        float, Meta(ge=0, le=1, description="share of the engine's score in relevance")
    ] = 0.0
    profile_weight: Annotated[
        float,
        Meta(ge=0, le=10, description="how much a user's taste moves the cosine; 0 is not at all"),
    ] = 0.5
    pair_candidates: Annotated[
        int, Meta(ge=0, description="candidates that a pair model reads, best first; 0: none")
    ] = 64
    explore: Annotated[
        float, Meta(ge=0, le=1, description="exploration: each pair is swapped at half this chance")
    ] = 0.0
    deadline_ms: Annotated[
        Annotated[float, Meta(ge=0, le=86_400_000)] | None,
        Meta(description="deadline, where neither event nor policy sets it; none"),
    ] = None
    max_candidates: Annotated[int, Meta(ge=1, description="candidates of one event")] = 1_000
    max_text_chars: Annotated[
        int, Meta(ge=1, description="longer texts are cut here and counted")
    ] = 2_000
    max_record_bytes: Annotated[int, Meta(ge=1, description="bytes of one record")] = 1_048_576
    batch_tokens: Annotated[int, Meta(ge=1, description="padded tokens of one model call")] = 4_096
    batch_rows: Annotated[int, Meta(ge=1, description="texts of one model call")] = 64
    batch_events: Annotated[int, Meta(ge=1, description="events of one micro-batch, at most")] = 16
    batch_texts: Annotated[
        int, Meta(ge=1, description="unseen texts and pairs at which a micro-batch closes")
    ] = 256
    in_flight: Annotated[int, Meta(ge=1, description="events read and not yet acked")] = 256
    cached_vectors: Annotated[int, Meta(ge=1, description="item and query vectors kept")] = 100_000
    cached_pairs: Annotated[
        int, Meta(ge=1, description="logits of a query and an item that are kept")
    ] = 100_000
    bundle_cache: Annotated[
        str, Meta(description="folder for bundles of a registry that is no local folder")
    ] = ".prismrank/cache"
    poll_seconds: Annotated[float, Meta(gt=0, description="between looks at the alias")] = 5.0
    commit_seconds: Annotated[float, Meta(gt=0, description="between offset commits")] = 0.5
    fetch_wait_ms: Annotated[int, Meta(ge=1, description="longest a broker holds a fetch back")] = (
        100
    )
    session_timeout_seconds: Annotated[
        float, Meta(gt=0, description="silence after which the group gives a worker up")
    ] = 10.0
    produce_timeout_seconds: Annotated[
        float, Meta(gt=0, description="for one delivery to be confirmed")
    ] = 10.0
    produce_attempts: Annotated[
        int, Meta(ge=1, description="deliveries tried before a dead letter")
    ] = 4
    model_failures: Annotated[
        int, Meta(ge=1, description="events in a row that fail alone before the worker exits")
    ] = 10
    fuse_share: Annotated[
        float,
        Meta(gt=0, le=1, description="share of unexpected errors in 100 events; past it: exit"),
    ] = 0.2
    stall_seconds: Annotated[
        float, Meta(gt=0, description="with work waiting and nothing acked: not live")
    ] = 60.0
    shutdown_seconds: Annotated[float, Meta(gt=0, description="for a clean stop")] = 20.0
    reply_topics: Annotated[
        tuple[str, ...], Meta(description="topics that kafka_replyTopic may name, comma-separated")
    ] = ()
    http_host: Annotated[str, Meta(description="where HTTP listens")] = "127.0.0.1"
    http_port: Annotated[int, Meta(ge=0, le=65_535, description="port of HTTP")] = 8_470
    http_token: Annotated[
        str, Meta(description="bearer token; required where http_host is not loopback")
    ] = ""

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise BadSetting(_message("method", "one of " + ", ".join(METHODS), self.method))
        if self.http_host not in LOOPBACK and not self.http_token:
            raise BadSetting(_message("http_token", f"a token, for {self.http_host} is open", ""))
        self._check_challenger()

    def _check_challenger(self) -> None:
        if self.challenger and not ALIAS.fullmatch(self.challenger):
            expected = "an alias: lower-case letters, digits, - and _"
            raise BadSetting(_message("challenger", expected, self.challenger))
        if self.challenger == self.alias:
            expected = "another alias than PRISMRANK_ALIAS"
            raise BadSetting(_message("challenger", expected, self.challenger))
        if (self.challenger_share or self.challenger_shadow) and not self.challenger:
            expected = "an alias, or challenger_share and challenger_shadow of 0"
            raise BadSetting(_message("challenger", expected, self.challenger))
        if self.challenger_group:
            self._check_group(*self.challenger_group.partition("=")[::2])
        if self.challenger_drift < 1.0 and not self.challenger_shadow:
            expected = "1, or challenger_shadow above 0, for drift is watched in silent lists"
            raise BadSetting(_message("challenger_drift", expected, self.challenger_drift))

    def _check_group(self, field: str, value: str) -> None:
        kind, _, name = field.partition(".")
        if not value or not (field in TEXTS or (kind == "attributes" and name)):
            expected = f"field=value, the field one of {', '.join(TEXTS)}, attributes.NAME"
            raise BadSetting(_message("challenger_group", expected, self.challenger_group))
        if not self.challenger_shadow:
            expected = "challenger_shadow above 0, for a group is watched in silent lists"
            raise BadSetting(_message("challenger_group", expected, self.challenger_group))

    @property
    def limits(self) -> Limits:
        """How large a message may be."""
        return Limits(record_bytes=self.max_record_bytes, candidates=self.max_candidates)

    @property
    def dials(self) -> Dials:
        """What is in force where neither event nor policy says otherwise."""
        return Dials(
            diversity=self.diversity,
            method=self.method,
            engine_weight=self.engine_weight,
            deadline_ms=self.deadline_ms,
            profile_weight=self.profile_weight,
            max_text_chars=self.max_text_chars,
            personalise=self.profiles != "off",
            pair_candidates=self.pair_candidates,
            explore=self.explore,
        )

    @property
    def watched_group(self) -> Group | None:
        """The items that must keep their first places while a challenger is tried."""
        field, _, value = self.challenger_group.partition("=")
        return Group(field=field, value=value) if field else None

    @property
    def budget(self) -> TokenBudget:
        """How large one call of the model may be."""
        return TokenBudget(padded_tokens=self.batch_tokens, rows=self.batch_rows)

    def topic(self, name: str) -> str:
        """The full name of a topic."""
        return self.topic_prefix + name


def read(environment: Mapping[str, str]) -> Settings:
    """The settings in an environment; raises BadSetting that names the variable at fault."""
    given: dict[str, object] = {}
    for variable, text in environment.items():
        name = variable.removeprefix(PREFIX).lower()
        if not variable.startswith(PREFIX) or name in OTHERS or KUBERNETES.match(name):
            continue
        if name not in Settings.__struct_fields__:
            raise BadSetting(f"{variable}: no such setting; see the table in the README")
        topics = [topic.strip() for topic in text.split(",") if topic.strip()]
        given[name] = topics if name == "reply_topics" else text
    try:
        return msgspec.convert(given, Settings, strict=False)
    except msgspec.ValidationError as error:
        reason, _, path = str(error).partition(" - at `$.")
        if not path:
            raise BadSetting(reason) from error
        name = path.rstrip("`")
        raise BadSetting(
            _message(name, reason.removeprefix("Expected "), given.get(name))
        ) from error


KUBERNETES: Final = re.compile(r"(service|port)(_|$)")
"""What Kubernetes sets in every pod beside a Service that is called prismrank."""
OTHERS: Final = frozenset({"base", "data", "test_kafka"})
"""Variables of the demo and of the tests: no settings of the worker."""


def table() -> str:
    """The settings as the README shows them."""
    hints = get_type_hints(Settings, include_extras=True)
    rows = ["| setting | default | meaning |", "|---|---|---|"]
    for name, default in zip(Settings.__struct_fields__, Settings.__struct_defaults__, strict=True):
        meta = next(m for m in hints[name].__metadata__ if isinstance(m, Meta))
        value = ",".join(default) if isinstance(default, tuple) else default
        shown = "" if value in ("", None) else f"`{value}`"
        rows.append(f"| `{PREFIX}{name.upper()}` | {shown} | {meta.description} |")
    return "\n".join(rows)


def _message(name: str, expected: str, value: object) -> str:
    return f"{PREFIX}{name.upper()}: expected {expected}, got {value!r}"
