"""Where bundles live: a folder or an object-store prefix, and the aliases that say which serves.

bundles/<digest>/   a bundle; it exists once its manifest.json, written last, is there
aliases/<name>      one line: a digest
history.jsonl       every change of an alias: when, from what, to what, why
"""

from __future__ import annotations

import contextlib
import datetime
import re
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any, Final, Literal

import fsspec
import msgspec
from fsspec.implementations.local import LocalFileSystem
from msgspec import Struct

from export import bundle
from export.bundle import MANIFEST, BundleError, Manifest

DIGEST: Final = re.compile(r"[0-9a-f]{64}")
ALIAS: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
HISTORY: Final = "history.jsonl"


class RegistryError(Exception):
    """The registry cannot do what was asked. Nothing was changed."""


class Change(Struct, frozen=True, kw_only=True):
    """One line of the history."""

    at: str
    alias: str
    digest: str
    previous: str | None
    action: Literal["promote", "rollback"]
    reason: str


class Registry:
    """Bundles by digest, and aliases to them. One writer at a time; any number of readers."""

    def __init__(self, url: str | Path) -> None:
        self.url = str(url)
        self._fs: Any
        try:
            self._fs, root = fsspec.core.url_to_fs(self.url)
        except (ImportError, ValueError) as error:  # s3:// needs the package s3fs, and so on
            raise RegistryError(f"registry {self.url}: {error}") from error
        self._root = root.rstrip("/")
        self._local = isinstance(self._fs, LocalFileSystem)

    def publish(self, folder: Path) -> str:
        """Copy a verified bundle in; its digest. A bundle that is there already stays as it is."""
        manifest = bundle.verify(folder)
        digest = bundle.digest(folder)
        if digest in self.digests():
            return digest
        for name in manifest.files:
            self._put(folder / name, self._bundle(digest, name))
        self._put(folder / MANIFEST, self._bundle(digest, MANIFEST))
        return digest

    def digests(self) -> list[str]:
        """The names of the bundles that are wholly here, sorted."""
        self._fs.invalidate_cache()
        found = self._fs.glob(self._path("bundles", "*", MANIFEST))
        names = (PurePosixPath(path).parent.name for path in found)
        return sorted(name for name in names if DIGEST.fullmatch(name))

    def resolve(self, alias: str) -> str | None:
        """The digest that an alias names; None where nobody has promoted to it."""
        text = self._read(self._path("aliases", _alias(alias)))
        return None if text is None else _digest(text.strip())

    def aliases(self) -> dict[str, str]:
        """Every alias and the digest that it names."""
        self._fs.invalidate_cache()
        names = (PurePosixPath(path).name for path in self._fs.glob(self._path("aliases", "*")))
        known: dict[str, str] = {}
        for name in sorted(name for name in names if ALIAS.fullmatch(name)):
            with contextlib.suppress(RegistryError):  # garbled: it names nothing
                known[name] = self.resolve(name) or ""
        return {name: digest for name, digest in known.items() if digest}

    def promote(self, digest: str, alias: str = "live", *, reason: str) -> None:
        """Let an alias name a bundle; refused where it is not published or does not verify."""
        self.verify(digest)
        self._change(alias, digest, "promote", reason)

    def rollback(self, alias: str = "live", *, reason: str) -> str:
        """Back to what the alias named before; twice goes back twice. Its digest."""
        trail: list[str] = []
        for change, moved in self._followed(_alias(alias)):
            if not moved:
                continue
            if change.action == "rollback":
                trail.pop()
            elif trail[-1:] != [change.digest]:
                trail.append(change.digest)
        if len(trail) < 2:
            raise RegistryError(f"alias {alias!r} names nothing from before to go back to")
        self.verify(trail[-2])
        self._change(alias, trail[-2], "rollback", reason)
        return trail[-2]

    def verify(self, digest: str) -> Manifest:
        """Check every file of a published bundle; BundleError names the first that differs."""
        if self._local:
            return bundle.verify(self._published(digest), digest)
        with tempfile.TemporaryDirectory() as temporary:
            return self._download(digest, Path(temporary))

    def fetch(self, digest: str, cache: Path) -> Path:
        """A verified bundle as a local folder: the registry's own, or a copy in `cache`."""
        if self._local:
            folder = self._published(digest)
            bundle.verify(folder, digest)
            return folder
        target = cache / _digest(digest)
        if target.exists():
            try:
                bundle.verify(target, digest)
                return target
            except BundleError:  # a copy that rotted on this disk is fetched anew
                shutil.rmtree(target)
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache, prefix=f".{digest}.") as temporary:
            self._download(digest, Path(temporary) / "bundle")
            try:
                (Path(temporary) / "bundle").rename(target)
            except OSError:  # another worker on this machine was faster: then theirs must verify
                bundle.verify(target, digest)
        return target

    def history(self) -> list[Change]:
        """Every change of every alias, oldest first."""
        lines = (self._read(self._path(HISTORY)) or "").splitlines()
        try:
            return [msgspec.json.decode(line, type=Change) for line in lines]
        except msgspec.DecodeError as error:
            raise RegistryError(f"{HISTORY} is damaged: {error}") from error

    def _change(
        self, alias: str, digest: str, action: Literal["promote", "rollback"], reason: str
    ) -> None:
        change = Change(
            at=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            alias=_alias(alias),
            digest=digest,
            previous=self._named_before(alias),
            action=action,
            reason=reason,
        )
        last = self._followed(alias)[-1:]
        begun = [(each.action, each.digest) for each, moved in last if not moved]
        # The history first: an alias that moved without a line in it could not be rolled back.
        if begun != [(action, digest)]:
            before = self._read(self._path(HISTORY)) or ""
            self._write(self._path(HISTORY), before.encode() + msgspec.json.encode(change) + b"\n")
        self._write(self._path("aliases", alias), digest.encode() + b"\n")

    def _followed(self, alias: str) -> list[tuple[Change, bool]]:
        """The changes of an alias, and whether it moved: who was killed between the line and the
        alias left it naming what it had named, as the line after it tells, or the alias now."""
        told = [change for change in self.history() if change.alias == alias]
        after = [*(change.previous for change in told[1:]), self._named_before(alias)]
        return [
            (change, change.digest == change.previous or named != change.previous)
            for change, named in zip(told, after, strict=False)
        ]

    def _named_before(self, alias: str) -> str | None:
        """What an alias names; where it is garbled, what it was last told to, so that promoting
        mends it."""
        try:
            return self.resolve(alias)
        except RegistryError:
            told = [change.digest for change in self.history() if change.alias == alias]
            return told[-1] if told else None

    def _download(self, digest: str, target: Path) -> Manifest:
        self._get(self._bundle(digest, MANIFEST), target / MANIFEST, digest)
        for name in bundle.read(target).files:
            if not (target / name).resolve().is_relative_to(target.resolve()):
                raise BundleError(digest, f"{name}: lies outside the bundle")
            self._get(self._bundle(digest, name), target / name, digest)
        return bundle.verify(target, digest)

    def _get(self, path: str, target: Path, digest: str) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            with self._fs.open(path, "rb") as source, target.open("wb") as copy:
                shutil.copyfileobj(source, copy)
        except FileNotFoundError as error:
            missing = target.name if target.name != MANIFEST else "the bundle"
            raise BundleError(digest, f"{missing} is not in {self.url}") from error

    def _put(self, source: Path, path: str) -> None:
        """Copy one file in; readers see all of it or nothing."""
        if self._local:
            with _renamed(Path(path)) as temporary:
                shutil.copyfile(source, temporary)
        else:
            self._fs.put_file(str(source), path)

    def _write(self, path: str, content: bytes) -> None:
        if self._local:
            with _renamed(Path(path)) as temporary:
                temporary.write_bytes(content)
        else:
            self._fs.pipe_file(path, content)

    def _read(self, path: str) -> str | None:
        self._fs.invalidate_cache()
        try:
            return str(self._fs.cat_file(path).decode())
        except FileNotFoundError:
            return None
        except UnicodeDecodeError as error:
            raise RegistryError(f"{path} is not text: {error}") from error

    def _published(self, digest: str) -> Path:
        folder = Path(self._bundle(digest))
        if not (folder / MANIFEST).is_file():
            raise BundleError(digest, f"the bundle is not in {self.url}")
        return folder

    def _bundle(self, digest: str, *names: str) -> str:
        return self._path("bundles", _digest(digest), *names)

    def _path(self, *names: str) -> str:
        return "/".join([self._root, *names])


@contextlib.contextmanager
def _renamed(path: Path) -> Iterator[Path]:
    """A temporary file beside `path` that becomes it, or goes away where the body raises."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _digest(text: str) -> str:
    if not DIGEST.fullmatch(text):
        raise RegistryError(f"{text!r} is not a digest of 64 hex digits")
    return text


def _alias(text: str) -> str:
    if not ALIAS.fullmatch(text):
        raise RegistryError(f"{text!r} is not an alias: lower-case letters, digits, - and _")
    return text
