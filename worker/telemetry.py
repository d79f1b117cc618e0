"""Every metric and log field, declared once, with unit and meaning. A new one is one line."""

from __future__ import annotations

import logging
import sys
from datetime import UTC, datetime
from typing import Final

import msgspec
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
TOKENS: Final = (64, 256, 512, 1_024, 2_048, 4_096, 8_192, 16_384)
SHARES: Final = (0.0, 0.25, 0.5, 0.75, 0.999, 1.0)
TENTHS: Final = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
RATIOS: Final = (0.25, 0.5, 0.75, 0.9, 1.1, 1.3, 2.0, 4.0, 8.0, 16.0)
LOG_FIELDS: Final = ("query_id", "topic", "partition", "offset", "error", "path", "model", "reason")


class Telemetry:
    """The worker's own Prometheus metrics, in a registry of their own. No ids in labels."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        counter, gauge, histogram = self._counter, self._gauge, self._histogram
        self.events = counter("events", "records read", "topic")
        self.lists = counter("lists", "ranked lists whose delivery was confirmed", "road")
        self.candidates = counter("candidates", "candidates in events that were read")
        self.unknown_items = counter("unknown_items", "candidates without a title anywhere")
        self.unknown_fields = counter("unknown_fields", "fields that the wire does not name")
        self.truncated_texts = counter("truncated_texts", "texts cut at max_text_chars")
        self.degraded = counter("degraded", "lists in the fallback order", "reason")
        self.dead_letters = counter("dead_letters", "records given up", "topic", "error")
        self.refused_replies = counter("refused_replies", "reply topics not on the allow-list")
        self.rejected_rows = counter("rejected_rows", "table records that were not valid", "table")
        self.produce_retries = counter("produce_retries", "deliveries that were tried again")
        self.swaps = counter("swaps", "bundles taken up or refused", "result")
        self.vectors = counter("vectors", "texts whose vector was asked for", "cached")
        self.queries_spelled = counter(
            "queries_spelled", "lists whose query had a misspelt word that was read as it was meant"
        )
        self.pairs = counter("pairs", "query-item pairs whose logit a list was made of")
        self.pair_share = histogram(
            "pair_share", "how far the pair model's word counted in a list with a query", SHARES
        )
        self.stage_seconds = histogram("stage_seconds", "time of a stage", SECONDS, "stage")
        self.event_seconds = histogram(
            "event_seconds", "from the record's timestamp to the confirmed list", SECONDS
        )
        self.batch_tokens = histogram("batch_tokens", "padded tokens of a model call", TOKENS)
        self.queue_depth = gauge("queue_depth", "events that wait for the model")
        self.in_flight = gauge("in_flight", "events read and not yet acked")
        self.lag = gauge(
            "lag", "search events that arrived in the partitions held since the last ack"
        )
        self.table_rows = gauge("table_rows", "rows of a table", "table")
        self.profiles_on = gauge("profiles_on", "1 where the profiles table is kept")
        self.model_info = gauge(
            "model_info", "1 for the bundle in use", "model", "device", "variant"
        )

        self.arm_lists = counter("arm_lists", "lists of a trial by whose user it was", "arm")
        self.arm_degraded = counter("arm_degraded", "those of them in the fallback order", "arm")
        self.arm_errors = counter("arm_errors", "searches that the arm's model failed on", "arm")
        self.arm_score_seconds = histogram(
            "arm_score_seconds", "time of scoring a micro-batch while a trial runs", SECONDS, "arm"
        )
        self.shadow_overlap = histogram(
            "shadow_overlap", "share of the first 10 items that both models put there", TENTHS
        )
        self.shadow_slowdown = histogram(
            "shadow_slowdown", "the challenger's time over the champion's for one text", RATIOS
        )
        self.shadow_dropped = counter("shadow_dropped", "sampled searches left out, being busy")
        self.challenger_swaps = counter(
            "challenger_swaps", "challengers taken up or refused", "result"
        )
        self.challengers_taken_back = counter(
            "challengers_taken_back", "challengers stopped by a guard", "guard"
        )
        self.challenger_info = gauge("challenger_info", "1 for the bundle on trial", "model")

    def _counter(self, name: str, meaning: str, *labels: str) -> Counter:
        return Counter(f"prismrank_{name}", meaning, labels, registry=self.registry)

    def _gauge(self, name: str, meaning: str, *labels: str) -> Gauge:
        return Gauge(f"prismrank_{name}", meaning, labels, registry=self.registry)

    def _histogram(
        self, name: str, meaning: str, buckets: tuple[float, ...], *labels: str
    ) -> Histogram:
        return Histogram(
            f"prismrank_{name}", meaning, labels, buckets=buckets, registry=self.registry
        )


class JsonLines(logging.Formatter):
    """One JSON object a line: time, level, logger, message, and the fields of LOG_FIELDS given."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= {name: value for name in LOG_FIELDS if (value := getattr(record, name, None))}
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return msgspec.json.encode(line, enc_hook=str).decode()


class RateLimit(logging.Filter):
    """At most `burst` lines from one place in `seconds`; then a count of what was held."""

    def __init__(self, burst: int = 10, seconds: float = 10.0) -> None:
        super().__init__()
        self._burst, self._seconds = burst, seconds
        self._windows: dict[tuple[str, int], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        place = (record.pathname, record.lineno)
        start, count = self._windows.get(place, (record.created, 0))
        if record.created - start > self._seconds:
            if count > self._burst:
                record.msg = f"{record.msg} ({count - self._burst} more were held back)"
            start, count = record.created, 0
        self._windows[place] = (start, count + 1)
        return count < self._burst


def log_to_stderr(level: int = logging.INFO) -> None:
    """Structured logs on stderr, for a command that serves."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    handler.addFilter(RateLimit())
    logging.basicConfig(level=level, handlers=[handler], force=True)
    for noisy in ("faust", "aiokafka", "mode", "kafka"):
        logging.getLogger(noisy).setLevel(max(level, logging.WARNING))
