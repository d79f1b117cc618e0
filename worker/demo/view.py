"""What the demo shows: a live view on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
import zlib
from typing import Any, Final, Protocol, Self

from rich import box
from rich.columns import Columns
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from worker.demo.tally import Answered, Quality, Tally
from worker.events import Item

COLOURS: Final = (
    "red", "green", "yellow", "blue", "magenta", "cyan",
    "bright_red", "bright_green", "bright_yellow", "bright_blue", "bright_magenta", "bright_cyan",
)  # fmt: skip
SHOWN: Final = 10
LINE_SECONDS: Final = 5.0
MEASURES: Final = ("ndcg", "alpha_ndcg", "brands", "categories", "products")
HEADINGS: Final = ("nDCG@10", "α-nDCG@10", "brands", "categories", "products")
DIGITS: Final = (3, 3, 1, 1, 1)


class Screen(Protocol):
    """Where the demo is told."""

    def say(self, line: str) -> None:
        """One thing that happened."""

    def show(self, tally: Tally) -> None:
        """How things stand; called several times a second."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *error: object) -> None: ...


def screen(live: bool) -> Screen:
    """The live view, or plain lines."""
    return LiveScreen() if live else PlainScreen()


class PlainScreen:
    """One line every few seconds."""

    def __init__(self) -> None:
        self._said_at = 0.0
        self._last = ""

    def say(self, line: str) -> None:
        print(line, flush=True)

    def show(self, tally: Tally) -> None:
        now, line = time.monotonic(), progress(tally)
        if now - self._said_at >= LINE_SECONDS and line != self._last:
            self._said_at, self._last = now, line
            print(line, flush=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        return None


class LiveScreen:
    """The whole picture, redrawn four times a second."""

    def __init__(self) -> None:
        self._console = Console()
        self._live = Live(console=self._console, refresh_per_second=4, auto_refresh=False)
        self._last = ""

    def say(self, line: str) -> None:
        self._last = line
        self._console.print(line, style="dim")

    def show(self, tally: Tally) -> None:
        self._live.update(picture(tally, self._last), refresh=True)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._live.stop()


def progress(tally: Tally) -> str:
    """The state of the play on one line."""
    return (
        f"{len(tally.answers)}/{tally.planned} lists, {len(tally.sent) - len(tally.answers)} open, "
        f"{tally.lists_per_second:.1f}/s, p50 {tally.latency_ms(0.5):.0f} ms, "
        f"p99 {tally.latency_ms(0.99):.0f} ms, degraded {tally.degraded}, "
        f"duplicates {tally.duplicates}"
    )


def picture(tally: Tally, last: str) -> RenderableType:
    """Everything at once: the newest list before and after, the curve, the recent searches."""
    parts: list[RenderableType] = [Text(progress(tally), style="bold")]
    if tally.recent:
        newest = tally.recent[0]
        parts.append(_before_and_after(newest, tally.shop.catalogue))
    serving = tally.recent[0].ranked.model if tally.recent else None
    parts.append(Columns([curve_table(tally, serving), _recent(tally)]))
    return Panel(Group(*parts), title="prismrank demo", subtitle=last, box=box.ROUNDED)


def _before_and_after(answered: Answered, items: Any) -> Table:
    user, ranked = answered.visit.user, answered.ranked
    table = Table(
        title=f"“{ranked.user_query}” for {user.user_id}, diversity {ranked.diversity:g}",
        box=box.SIMPLE,
        expand=True,
    )
    for name, quality in (("the engine's order", answered.engine), ("ours", answered.ours)):
        table.add_column(f"{name} (nDCG {quality.ndcg:.2f})", ratio=1, no_wrap=True)
    engine = [candidate.item_id for candidate in answered.visit.event.candidates[:SHOWN]]
    ours = [item.item_id for item in ranked.items[:SHOWN]]
    for before, after in zip(engine, ours, strict=False):
        table.add_row(_coloured(items[before]), _coloured(items[after]))
    return table


def _coloured(item: Item) -> Text:
    """A title, its brand in the brand's colour and a block in its category's."""
    text = Text("■ ", style=_colour(item.category))
    title = item.title or item.item_id
    brand = item.brand or ""
    if brand and title.startswith(brand):
        text.append(brand, style=f"bold {_colour(brand)}")
        title = title[len(brand) :]
    return text.append(title)


def _colour(name: str | None) -> str:
    return COLOURS[zlib.crc32((name or "").encode()) % len(COLOURS)]


def curve_table(tally: Tally, model: str | None) -> Table:
    """Per dial: the engine's order, and that of a model, on the same searches."""
    title = "diversity dial: the engine's order→ours"
    table = Table(title=f"{title} ({model[:8]})" if model else title, box=box.SIMPLE)
    for heading in ("dial", "lists", *HEADINGS):
        table.add_column(heading, justify="right", no_wrap=True)
    for dial, count, before, after in tally.curve(model):
        table.add_row(f"{dial:g}", str(count), *_moves(before, after))
    return table


def _moves(before: Quality, after: Quality) -> list[str]:
    """Engine→ours for each measure, short enough for 80 columns: .833→.873."""
    pairs = [(getattr(before, name), getattr(after, name)) for name in MEASURES]
    return [f"{_short(b, n)}→{_short(a, n)}" for (b, a), n in zip(pairs, DIGITS, strict=True)]


def _short(value: float, digits: int) -> str:
    return f"{value:.{digits}f}".removeprefix("0")


def _recent(tally: Tally) -> Table:
    table = Table(title="recent searches", box=box.SIMPLE)
    for heading in ("query", "user", "dial", "ms"):
        table.add_column(heading, no_wrap=True, max_width=32)
    for answered in tally.recent:
        ranked = answered.ranked
        mark = " degraded" if ranked.degraded else ""
        table.add_row(
            ranked.user_query,
            ranked.user_id or "",
            f"{ranked.diversity:g}{mark}",
            f"{1_000 * answered.seconds:.0f}",
        )
    return table
