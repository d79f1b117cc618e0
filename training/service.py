"""What serves while a round is made: the champion, the base model beside it, and the alias."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from export import bundle
from export.build import Order, build
from export.draft import WEIGHTS
from export.registry import Registry
from export.session import Session, open_session
from export.source import read_source
from export.template import base_name
from training.assess import side
from training.config import Config, RegistrySettings
from training.rounds import PINNED, BadRound, Pinned, Round
from training.teach import Say
from training.trial import Side


def pin(config: Config, number: int, registry: Registry) -> Pinned:
    """What a round that begins now is given."""
    return Pinned(
        number=number,
        began=datetime.now(UTC),
        champion=registry.resolve(config.registry.alias),
        config=config.digest,
        snapshot=msgspec.to_builtins(config.logs.open().snapshot()),
    )


def begun(one: Round, config: str, pin: Callable[[], Pinned]) -> Pinned:
    """What the round was begun with, by `pin` where that is now.

    Under another `config` than it was begun with, a round of which nothing was made yet begins
    anew. Raises BadRound where something was: half of each would be neither.
    """
    pinned = one.begin(pin)
    if pinned.config == config:
        return pinned
    if not one.untouched:
        raise BadRound(
            f"{one.folder / PINNED}: begun with other settings or labels (sha256"
            f" {pinned.config[:12]}, now {config[:12]}); nothing of it was changed: take those back"
            " to go on with it, or remove its folder to begin it anew"
        )
    one.abandon()
    return one.begin(pin)


def zero_shot(config: Config, say: Say) -> Session:
    """The base model as a bundle of its own: the encoder of every round, and the first champion.

    It is built once for each base; one of other weights, or that is read otherwise, is another.
    """
    source = read_source(config.model.base_folder, config.model.base)
    name = base_name(source.weights_sha256, source.template, config.model.spelling)
    folder = Path(config.work) / "zero-shot" / name
    if not folder.exists():
        build(Order(config.model.base, folder, spelling=config.model.spelling), say)
    return open_session(folder, device="cpu")


def in_service(config: Config, digest: str | None, base: Side) -> Side:
    """The bundle that serves; the base model's where nothing was promoted yet."""
    if digest is None:
        return base
    folder = Registry(config.registry.url).fetch(digest, Path(config.work) / "cache")
    return side(open_session(folder, device="cpu"))


def begins_with(config: Config, champion: str | None, say: Say) -> Path | None:
    """The folder of the weights that a round's pair model begins with; None: the base's.

    Where the recipe begins with the champion's, these are in its bundle; not where nothing serves
    yet, where the bundle came from another base, or where it was drafted without its weights.
    """
    if config.recipe.start == "base":
        return None
    if champion is None:
        say("nothing serves yet: beginning with the base's weights")
        return None
    folder = Registry(config.registry.url).fetch(champion, Path(config.work) / "cache")
    base = read_source(config.model.base_folder, config.model.base).weights_sha256
    same = bundle.read(folder).base_model["weights_sha256"] == base
    if same and (folder / WEIGHTS).is_dir():
        return folder / WEIGHTS
    why = "has no weights to go on from" if same else "came from another base"
    say(f"the bundle {champion[:12]} {why}: beginning with the base's weights")
    return None


def promote_once(
    registry: Registry, digest: str, settings: RegistrySettings, champion: str | None, reason: str
) -> str | None:
    """Let the alias name the bundle, once; None, or why not.

    A round takes hours: where the alias no longer names the champion that the bundle was judged
    against, somebody moved it, and meant it. So did whoever rolled this promotion back before a
    killed round came to its end.
    """
    alias = settings.alias
    if not settings.promote:
        return "promote = false: a person promotes"
    live = registry.resolve(alias)
    if live == digest:
        return None
    moves = [change for change in registry.history() if change.alias == alias]
    began = any(move.digest == digest and move.action == "promote" for move in moves)
    if live != champion or (began and moves[-1].digest != digest):
        return f"{alias} was moved during the round, to {live or 'nothing'}: left there"
    registry.promote(digest, alias, reason=reason)
    return None
