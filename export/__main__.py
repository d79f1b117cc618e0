"""The command line of export: build a bundle, and keep a registry of them."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from export.bundle import BundleError
from export.calibrate import CalibrationError
from export.registry import Registry, RegistryError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; its exit status."""
    options = parser().parse_args(arguments)
    try:
        answer: dict[str, Any] = options.run(options)
    except (BundleError, RegistryError, CalibrationError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    lines = answer.pop("lines", None)
    if options.json:
        print(json.dumps(answer))
    else:
        for line in lines or [f"{key} {value}" for key, value in answer.items()]:
            print(line)
    return 0


def parser() -> argparse.ArgumentParser:
    """The grammar of the command line."""
    top = argparse.ArgumentParser(prog="python -m export", description=__doc__)
    commands = top.add_subparsers(required=True, metavar="COMMAND")
    _add_build(commands)
    registry = commands.add_parser("registry", help="publish, list, verify, promote, rollback")
    actions = registry.add_subparsers(required=True, metavar="ACTION")
    publish = _action(actions, "publish", _publish, "copy a bundle in")
    publish.add_argument("folder", type=Path, metavar="DIR")
    _action(actions, "list", _list, "the bundles and the aliases")
    verify = _action(actions, "verify", _verify, "check a bundle's files, or all bundles'")
    verify.add_argument("digest", nargs="?", metavar="DIGEST")
    promote = _action(actions, "promote", _promote, "let an alias name a bundle")
    promote.add_argument("digest", metavar="DIGEST")
    rollback = _action(actions, "rollback", _rollback, "back to what the alias named before")
    for change in (promote, rollback):
        change.add_argument("--alias", default="live")
        change.add_argument("--reason", required=True, metavar="TEXT")
    return top


def _add_build(commands: Any) -> None:
    build = commands.add_parser("build", help="a Hugging Face text encoder -> a bundle")
    build.set_defaults(run=_build)
    base = "folder of a Hugging Face text encoder, or its id on the hub"
    build.add_argument("--base", required=True, metavar="FOLDER_OR_ID", help=base)
    adapter = "a folder that training or peft left: the pair model, and a category head"
    build.add_argument("--adapter", type=Path, metavar="DIR", help=adapter)
    build.add_argument("--out", required=True, type=Path, metavar="DIR")
    build.add_argument(
        "--variants",
        type=lambda text: tuple(filter(None, text.split(","))),
        default=("fp32",),
        metavar="fp32,fp16,int8",
        help="float32 is always among them",
    )
    build.add_argument(
        "--as-written", action="store_true", help="misspelt queries are read as they are written"
    )
    build.add_argument("--categories", type=Path, metavar="FILE", help="one category a line")
    build.add_argument(
        "--calibrate", type=Path, metavar="FILE.jsonl", help="graded events, as written"
    )
    build.add_argument("--json", action="store_true")


def _action(actions: Any, name: str, run: Any, explanation: str) -> argparse.ArgumentParser:
    action: argparse.ArgumentParser = actions.add_parser(name, help=explanation)
    action.set_defaults(run=run)
    action.add_argument("--registry", required=True, metavar="URL", help="a folder or fsspec URL")
    action.add_argument("--json", action="store_true")
    return action


def _build(options: argparse.Namespace) -> dict[str, Any]:
    try:
        from export.build import Order, build  # torch: seconds that no other command should pay
    except ModuleNotFoundError as error:
        raise BundleError(
            options.out, f"{error.name} is missing: install the `export` extra"
        ) from error
    categories = _categories(options.categories) if options.categories else ()
    order = Order(
        options.base,
        options.out,
        options.variants,
        categories,
        options.calibrate,
        options.adapter,
        not options.as_written,
    )
    digest = build(order, lambda line: print(line, file=sys.stderr))
    return {"digest": digest, "bundle": str(options.out)}


def _registry(options: argparse.Namespace) -> Registry:
    if Path(options.registry).is_file():  # a glob under a file finds nothing, and says nothing
        raise RegistryError(f"registry {options.registry}: is a file, expected a folder or a URL")
    return Registry(options.registry)


def _categories(path: Path) -> tuple[str, ...]:
    lines = (line.strip() for line in path.read_text(encoding="utf-8").splitlines())
    return tuple(dict.fromkeys(filter(None, lines)))


def _publish(options: argparse.Namespace) -> dict[str, Any]:
    digest = _registry(options).publish(options.folder)
    return {"digest": digest, "lines": [digest]}  # bare, so that a shell can hand it on


def _list(options: argparse.Namespace) -> dict[str, Any]:
    registry = _registry(options)
    aliases = registry.aliases()
    digests = registry.digests()
    lines = [" ".join([each, *(a for a in aliases if aliases[a] == each)]) for each in digests]
    return {"digests": digests, "aliases": aliases, "lines": lines or ["no bundles"]}


def _verify(options: argparse.Namespace) -> dict[str, Any]:
    registry = _registry(options)
    digests = [options.digest] if options.digest else registry.digests()
    if not digests:
        raise RegistryError(f"no bundles in {options.registry}")
    for digest in digests:
        registry.verify(digest)
    return {"verified": digests, "lines": [f"{digest} verified" for digest in digests]}


def _promote(options: argparse.Namespace) -> dict[str, Any]:
    _registry(options).promote(options.digest, options.alias, reason=options.reason)
    return {"alias": options.alias, "digest": options.digest}


def _rollback(options: argparse.Namespace) -> dict[str, Any]:
    digest = _registry(options).rollback(options.alias, reason=options.reason)
    return {"alias": options.alias, "digest": digest}


if __name__ == "__main__":
    sys.exit(main())
