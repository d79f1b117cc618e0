"""A search over recipes on paper: its Pareto set as a table, a plot, and configurations to run."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import Struct
from msgspec.structs import replace
from optuna.trial import FrozenTrial

from training.config import Config
from training.search import DIRECTIONS, front
from training.space import at

TABLE: Final = "pareto.md"
TITLES: Final = {"ndcg": "nDCG@10, dial 0", "alpha_ndcg": "alpha-nDCG@10, dial {:g}"}


def write(trials: Sequence[FrozenTrial], config: Config, folder: Path) -> list[FrozenTrial]:
    """`pareto.md`, `pareto.png`, and `pareto/trial-N.toml` for each trial of the Pareto set, which
    is given back, the best nDCG first."""
    best = sorted(front(trials), key=lambda trial: -_values(trial)["ndcg"])
    (folder / TABLE).write_text(markdown(trials, best, config) + "\n")
    _plot(trials, best, config, folder / "pareto.png")
    ready = folder / "pareto"
    ready.mkdir(exist_ok=True)
    for old in ready.glob("trial-*.toml"):
        old.unlink()
    for trial in best:
        recipe = at(config.recipe, trial.params)
        (ready / f"trial-{trial.number}.toml").write_text(toml(replace(config, recipe=recipe)))
    return best


def markdown(trials: Sequence[FrozenTrial], best: Sequence[FrozenTrial], config: Config) -> str:
    """The Pareto set as a table, below it the recipe as configured where another beats it."""
    dials, done = list(config.tune.space), [trial for trial in trials if trial.values]
    own = config.tune.own(config.recipe)
    titles = [TITLES["ndcg"], TITLES["alpha_ndcg"].format(config.judge.diversity)]
    titles += ["tokens a pair", "ms a pair", "MB"]
    lines = [
        f"{len(best)} of {len(trials)} trials are beaten by no other"
        f" ({len(trials) - len(done)} failed){_judged_on(done)}",
        "",
        f"| trial | {' | '.join((*titles, *dials))} |",
        "|---|" + "--:|" * len(titles) + "---|" * len(dials),
    ]
    configured = [trial for trial in done if trial.params == own and trial not in best]
    for trial in (*best, *configured):
        found = _values(trial) | trial.user_attrs
        cells = [f"{found['ndcg']:.4f}", f"{found['alpha_ndcg']:.4f}", f"{found['tokens']:.1f}"]
        cells += [f"{found['ms']:.2f}", f"{found['mb']:.1f}"]
        cells += [_short(trial.params[name]) for name in dials]
        name = f"{trial.number}, as configured" if trial.params == own else str(trial.number)
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _judged_on(done: Sequence[FrozenTrial]) -> str:
    """On how much the order of trials rests."""
    count = max((trial.user_attrs.get("queries", 0) for trial in done), default=0)
    return (
        f", on {count} queries: the gate judges what is run with an interval, this table has none"
    )


def as_json(trials: Sequence[FrozenTrial], best: Sequence[FrozenTrial]) -> dict[str, Any]:
    """The Pareto set as plain values."""
    return {
        "trials": len(trials),
        "failed": sum(not trial.values for trial in trials),
        "pareto": [
            {"trial": each.number, **_values(each), **each.user_attrs, "recipe": each.params}
            for each in best
        ],
    }


def toml(config: Config) -> str:
    """A configuration as TOML, without what is as it is by default. TOML knows no null: a setting
    of none is left out, and so is none again only where that is the default."""
    return "\n".join(_section(config, "")).lstrip("\n") + "\n"


def _section(section: Struct, name: str) -> Iterator[str]:
    told = dict(_told(section))
    if name and any(not isinstance(value, Struct) for value in told.values()):
        yield f"\n[{name}]"
    for key, value in told.items():
        if not isinstance(value, Struct):
            yield f"{key} = {_toml(value)}"
    for key, value in told.items():
        if isinstance(value, Struct):
            yield from _section(value, f"{name}.{key}" if name else key)


def _told(section: Struct) -> Iterator[tuple[str, Any]]:
    for field in msgspec.structs.fields(type(section)):
        made = field.default_factory
        default = field.default if made is msgspec.NODEFAULT else made()
        value = getattr(section, field.name)
        if value != default and value is not None:
            yield field.encode_name, value


def _toml(value: Any) -> str:
    if isinstance(value, Mapping):
        pairs = (f"{_toml(key)} = {_toml(each)}" for key, each in value.items())
        return f"{{ {', '.join(pairs)} }}"
    if isinstance(value, datetime):
        return value.isoformat()
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _values(trial: FrozenTrial) -> dict[str, float]:
    return dict(zip(DIRECTIONS, trial.values, strict=True))


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _plot(
    trials: Sequence[FrozenTrial], best: Sequence[FrozenTrial], config: Config, path: Path
) -> None:
    """nDCG against alpha-nDCG, the colour says the tokens; the Pareto set by its numbers."""
    from matplotlib.figure import Figure  # a second that only a plot is worth

    done = [_values(trial) for trial in trials if trial.values]
    figure = Figure(figsize=(5.2, 3.8), layout="constrained")
    panel = figure.subplots()
    columns = [[each[name] for each in done] for name in DIRECTIONS]
    points = panel.scatter(columns[0], columns[1], c=columns[2], cmap="viridis_r")
    figure.colorbar(points, label="tokens a pair")
    for trial in best:
        at = (_values(trial)["ndcg"], _values(trial)["alpha_ndcg"])
        panel.scatter(*at, s=110, facecolors="none", edgecolors="0.2")
        panel.annotate(str(trial.number), at, (6, 4), textcoords="offset points")
    panel.set(xlabel=TITLES["ndcg"], ylabel=TITLES["alpha_ndcg"].format(config.judge.diversity))
    panel.locator_params(nbins=5)
    panel.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150)
