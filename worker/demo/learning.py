"""The demo's round of learning: visits, collect, train, gate, swap. Training runs as children.

Everything of one demo stands in a folder of its own: its registry, which begins with the bundle
that was live, the log tables, the round. So no demo stands on what another one learned.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO, Any, Final

from export import bundle
from export.registry import Registry
from export.template import base_name
from worker import codec
from worker.demo.children import Say, Worker, command
from worker.errors import WorkerFault
from worker.shop.visits import Shop

ALIAS: Final = "live"
VISITS: Final = 600  # simulated, besides what is played
PAGE: Final = 10
SWAP_SECONDS: Final = 120.0
LOOK_SECONDS: Final = 0.2
SPAN: Final = timedelta(hours=1)  # of the shop's time: the simulated visits come in the next hour
EXPLORE: Final = 0.5
STEPS, PAIRS_PER_STEP = 60, 32  # 1,920 pairs
CONFIG: Final = """\
work = {work}
[model]
base = {base}
fields = ["title", "category"]
most_categories = 0
[logs]
url = {logs}
[collect]
kafka = {kafka}
fetch_wait_ms = 50
[labels]  # the play is faster than any life: whoever acts fast is no bot here
bot_acts_per_minute = 1000000
[recipe]
epochs = 20
max_steps = {steps}
pairs_per_step = {pairs_per_step}
freeze_embeddings = true
threads = 1
[judge]
held_out = 0.1
kept = 0.15
[registry]
url = {registry}
alias = {alias}
[simulate]
visits = {visits}
start = {start}
visits_per_day = {visits_per_day}
page = {page}
explore = {explore}
noise = {noise}
most = {most}
eta = {eta}
users = {users}
dwell = false
"""


@dataclass(frozen=True, slots=True)
class Learned:
    """How a round ended."""

    promoted: bool
    reason: str
    champion: str  # the digest that was live
    bundle: str  # and of what was trained
    seconds: dict[str, float]  # of each command, and of the swap

    @property
    def serving(self) -> str:
        """The digest of what serves from here on."""
        return self.bundle if self.promoted else self.champion


class Round:
    """One round in one folder."""

    def __init__(self, folder: Path, champion: Path, base: Path, say: Say) -> None:
        """Give the folder a registry of its own, where the bundle `champion` is live."""
        self.registry = folder / "registry"
        self._folder, self._base, self._say = folder, base, say
        registry = Registry(self.registry)
        self.champion = registry.publish(champion)
        registry.promote(self.champion, ALIAS, reason="the demo begins")
        self._seconds: dict[str, float] = {}
        self._told: set[str] = set()

    @property
    def promoted(self) -> str | None:
        """What was promoted in the place of the champion, if anything was."""
        live = Registry(self.registry).resolve(ALIAS)
        return None if live == self.champion else live

    async def learn(self, shop: Shop, worker: Worker) -> Learned:
        """Visits, collect, train, gate, and wait for the worker to swap. Raises WorkerFault."""
        catalogue, config = self._folder / "items.jsonl", self._folder / "round.toml"
        catalogue.write_bytes(b"".join(codec.encode(i) + b"\n" for i in shop.catalogue.values()))
        config.write_text(self.configuration(worker.settings["PRISMRANK_KAFKA"], shop))
        self.spare_a_build()
        self._say(f"round: the next hour of the same shop in time lapse, {VISITS} visits")
        await self._run("simulate", str(config), "--catalogue", str(catalogue))
        self._say("round: collecting what was asked, answered and clicked")
        rows = await self._run("collect", str(config), "--once")
        self._say("round: " + ", ".join(f"{count} {table}" for table, count in rows.items()))
        self._say(f"round: training on at most {STEPS * PAIRS_PER_STEP} pairs")
        ended = await self._run("run", str(config))
        shutil.rmtree(self._folder / "work")  # half a gigabyte; the bundle carries the report
        if ended["promoted"]:
            await self.swapped(worker, ended["bundle"])
        return Learned(
            promoted=ended["promoted"],
            reason=ended["reason"],
            champion=self.champion,
            bundle=ended["bundle"],
            seconds=self._seconds,
        )

    async def _run(self, name: str, *arguments: str) -> dict[str, Any]:
        began = time.monotonic()
        answer = await command("training", name, *arguments, "--json", say=self._tell)
        self._seconds[name] = round(time.monotonic() - began, 1)
        found: dict[str, Any] = json.loads(answer.splitlines()[-1])
        return found

    async def swapped(self, worker: Worker, digest: str) -> None:
        """Wait until the worker has taken up a bundle. Raises WorkerFault where it does not."""
        began = time.monotonic()
        while not await worker.serves(digest):
            if time.monotonic() - began > SWAP_SECONDS:
                raise WorkerFault(f"{digest[:12]} was not taken up; {worker.diagnosis()}")
            await asyncio.sleep(LOOK_SECONDS)
        self._seconds["swap"] = round(time.monotonic() - began, 1)
        self._say(f"worker: swapped to {digest[:12]}")

    def _tell(self, line: str) -> None:
        if line not in self._told:  # the gate's reason is said by whoever comes by it
            self._told.add(line)
            self._say(f"  {line}")

    def spare_a_build(self) -> None:
        """Put the champion where training looks for the base model's own bundle, if it is that.

        Half a minute less; elsewhere training would build one of its own.
        """
        champion = self.registry / "bundles" / self.champion
        manifest = bundle.read(champion)
        if manifest.pair_template is None:
            folder = self._folder / "work" / "zero-shot"
            folder.mkdir(parents=True)
            weights = manifest.base_model["weights_sha256"]
            name = base_name(weights, manifest.template, manifest.spelling)
            (folder / name).symlink_to(champion.resolve())

    def configuration(self, kafka: str, shop: Shop) -> str:
        """What `python -m training` is told, as TOML."""
        clicks = shop.click_model
        text = {
            "work": self._folder.resolve() / "work",
            "base": self._base.resolve(),
            "logs": self._folder.resolve() / "logs",
            "kafka": kafka,
            "registry": self.registry.resolve(),
            "alias": ALIAS,
        }
        return CONFIG.format(
            **{name: json.dumps(str(value), ensure_ascii=False) for name, value in text.items()},
            steps=STEPS,
            pairs_per_step=PAIRS_PER_STEP,
            visits=VISITS,
            start=datetime.now(UTC).isoformat(timespec="milliseconds"),
            visits_per_day=VISITS * (timedelta(days=1) / SPAN),
            page=PAGE,
            explore=EXPLORE,
            noise=clicks.noise,
            most=clicks.most,
            eta=clicks.eta,
            users=len(shop.users),
        )


@contextmanager
def fresh_folder(home: Path) -> Iterator[Path]:
    """A folder for one demo, kept after it; those of demos that have ended are removed."""
    for lock in home.glob("demo-*/lock"):
        with lock.open() as held:
            if _locked(held):
                shutil.rmtree(lock.parent)
    stamp = f"{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}"
    folder = home / f"demo-{stamp}"
    folder.mkdir(parents=True)
    with (folder / "lock").open("w") as held:
        _locked(held)
        yield folder


def _locked(held: IO[str]) -> bool:
    """Whether the lock is ours now; a process that ends gives back what it holds."""
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
