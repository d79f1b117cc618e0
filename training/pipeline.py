"""The flow on one screen: logs in, a promoted bundle out, or the reason why not.

`run_round` is a round from what users did, `run_judgments` one fine-tuning from human labels. Both
stop and go on at any line: what a stage finished stays (`training.rounds`), fine-tuning goes on
from its last checkpoint, publishing and promoting are done once.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from export import bundle
from export.draft import TrainedOrder, draft, finish
from export.onnx import load_trunk
from export.registry import Registry
from export.session import Session, open_session
from training import teach
from training.assess import Bench, Extra, assess, side
from training.beginning import Load
from training.clicks import clicks_checks
from training.columns import columns
from training.config import BadConfig, Config
from training.dataset import LabelledList, as_read, graded, labelled, split_by_query
from training.debias import split, weigh
from training.dossier import DECISION, Dossier
from training.examination import Examination, estimate
from training.fine_tune import MODEL, RESULT, Trained, fine_tune
from training.gate import Decision, decide
from training.impressions import ImpressionList, join_impressions
from training.judgments import GradedQuery, digest, read_jsonl, worth_measuring
from training.negatives import with_negatives
from training.reading import Snapshot
from training.recipe import Recipe
from training.replay import replayed
from training.reweigh import reweighed
from training.rounds import Outcome, Pinned, Round
from training.service import begins_with, begun, in_service, pin, promote_once, zero_shot
from training.sources import CHAMPION
from training.synthetic import synthetic
from training.teach import Say
from training.teachers import check_teacher
from training.unlabelled import agreed, without_behaviour
from training.uses import uses
from worker.ranking.join import JoinedSearch
from worker.ranking.model import Model, Vector


@dataclass(frozen=True, slots=True)
class Lesson:
    """What is learned from, and what it is judged on."""

    learn: Sequence[LabelledList]
    kept: Sequence[LabelledList]  # for early stopping, calibration and blend
    sets: Mapping[str, Sequence[GradedQuery]]  # for the judges alone
    counts: Mapping[str, float]
    examination: Examination | None = None
    agreed: Sequence[LabelledList] = ()  # learned from beside the others, and nothing else


def run_round(config: Config, number: int, one: Round, say: Say) -> Outcome:
    """One round; the outcome stands in its folder. Raises PrismrankError, BundleError and
    RegistryError where it cannot go on: the live model stays, and the round can be taken up."""
    if (ended := one.outcome()) is not None:
        return ended
    check_teacher(config.recipe)
    registry = Registry(config.registry.url)
    pinned = begun(one, config.digest, lambda: pin(config, number, registry))
    logs, snapshot = config.logs.open(), msgspec.convert(pinned.snapshot, Snapshot)
    items = logs.items(snapshot)
    read = (logs.searches(snapshot), logs.lists(snapshot), logs.behaviours(snapshot))

    joined = join_impressions(*read, items, config.labels)
    past, recent = split(joined.lists, config.judge.held_out)
    examination = estimate(columns(past)[0], config.examination)
    learn, kept = split_by_query(weigh(past, examination, config.debias, items), config.judge.kept)
    lesson = Lesson(
        learn,
        kept,
        _judged_on(config, recent, examination),
        {**msgspec.structs.asdict(joined.tally), "items": len(items)},
        examination,
    )

    base = side(zero_shot(config, say))
    bench = Bench(base, in_service(config, pinned.champion, base), config)
    drawn = replayed(learn, config.recipe.replay, config.recipe.seed)
    lesson = enlarged(config, one, lesson, without_behaviour(drawn, past), bench.models, say)
    clicks = clicks_checks(past, recent, examination, items, config)
    sealed = learned(config, one, lesson, bench, pinned.champion, say, clicks)
    decision = msgspec.json.decode((sealed / DECISION).read_bytes(), type=Decision)

    say("publishing" if decision.promote else "publishing what will not serve, with its report")
    published, left = registry.publish(sealed), None
    if decision.promote:
        told = f"round {number}: {decision.reason}"
        left = promote_once(registry, published, config.registry, pinned.champion, told)
    return one.end(
        Outcome(
            number=number,
            ended=datetime.now(UTC),
            bundle=published,
            champion=pinned.champion,
            promoted=decision.promote and left is None,
            reason=f"{decision.reason}; {left}" if left else decision.reason,
            counts=dict(lesson.counts),
            losses=trained_result(one).last_losses,
            decision=decision,
        )
    )


def _judged_on(
    config: Config, recent: Sequence[ImpressionList], examination: Examination
) -> dict[str, list[GradedQuery]]:
    """The newest lists, by the grades of their queries (an impression's own are biased by where
    things stood), and the golden queries."""
    fair = msgspec.structs.replace(config.debias, rows="query")
    sets = {"held-out": [graded(each) for each in weigh(recent, examination, fair)]}
    sets |= {Path(name).name: read_jsonl(Path(name)) for name in config.judge.golden}
    return {name: worth_measuring(queries) for name, queries in sets.items()}


def enlarged(
    config: Config,
    one: Round,
    lesson: Lesson,
    unlabelled: Sequence[JoinedSearch],
    models: tuple[Model, Model],
    say: Say,
) -> Lesson:
    """The lesson with what two teachers agree on of unlabelled lists; as it is where the recipe
    asks for none of them. `models` are the base's and what serves."""
    if not config.recipe.unlabelled.share:
        return lesson
    drawn = replayed(lesson.learn, config.recipe.replay, config.recipe.seed)
    lists, counts = agreed(unlabelled, drawn, config, models, one, say)
    return replace(lesson, agreed=lists, counts={**lesson.counts, **counts})


def run_judgments(
    config: Config,
    queries: Sequence[GradedQuery],
    out: Path,
    say: Say,
    encoder: Session | None = None,
    load: Load = load_trunk,
) -> str:
    """One fine-tuning from human labels; a complete bundle at `out`, and its digest.

    A tenth of the queries, by their hash, is kept for calibration, and another for the judges.
    `encoder` is the base's zero-shot bundle where it is open already, `load` gives its trunk. Work
    in progress stands in the configuration's `work`, and is gone when it is done. Raises as
    `run_round` does, and BadRound where `work` was begun with other labels or settings.
    """
    lesson = lesson_of(config, queries)
    work = Round(Path(config.work))
    both = hashlib.sha256(f"{config.digest} {digest(queries)}".encode()).hexdigest()
    now = datetime.now(UTC)
    begun(work, both, lambda: Pinned(number=0, began=now, champion=None, config=both, snapshot={}))
    base = side(encoder or zero_shot(config, say))
    sealed = learned(config, work, lesson, Bench(base, base, config), None, say, load=load)
    out.parent.mkdir(parents=True, exist_ok=True)
    if out.is_dir():
        out.rmdir()  # it is empty: the command has checked
    sealed.rename(out)
    shutil.rmtree(work.folder)
    return bundle.digest(out)


def lesson_of(config: Config, queries: Sequence[GradedQuery]) -> Lesson:
    """Human labels as `run_judgments` shares them out. Raises BadConfig where the recipe asks for a
    champion or for unlabelled lists: labels alone have neither."""
    recipe = config.recipe
    check_teacher(recipe)
    for name, asked in {"start": recipe.start, "teacher.folder": recipe.teacher.folder}.items():
        if asked == CHAMPION:
            raise BadConfig(
                f'recipe.{name} "{CHAMPION}": expected another from human labels, beside which'
                " nothing serves; nothing was trained"
            )
    if recipe.unlabelled.share:
        raise BadConfig(
            f"recipe.unlabelled.share {recipe.unlabelled.share:g}: expected 0 from human labels,"
            " where no list is without a grade; nothing was trained"
        )
    rest, judged = split_by_query(lists := labelled(queries), config.judge.kept, "judged ")
    learn, kept = split_by_query(rest, config.judge.kept)
    dev = worth_measuring(map(graded, judged))
    counts = {"queries": len(lists), "learned": len(learn), "kept": len(kept), "judged": len(dev)}
    return Lesson(learn, kept, {"dev": dev}, counts)


def learned(
    config: Config,
    one: Round,
    lesson: Lesson,
    bench: Bench,
    parent: str | None,
    say: Say,
    extra: Extra = lambda _champion, _challenger: (),
    load: Load = load_trunk,
) -> Path:
    """The sealed bundle of a lesson: teach, judge, decide, seal."""

    def seal(folder: Path) -> None:
        base, champion = bench.models
        challenger = taught(config, one, lesson, base, parent, say, champion, load)
        assessment = assess(challenger, bench, lesson.sets, say, extra)
        decision = decide(assessment.checks, config.gate)
        say(decision.reason)
        dossier = Dossier(
            decision=decision,
            assessment=assessment,
            manifest=challenger.manifest,
            champion=bench.champion.model.digest or "",
            counts=lesson.counts,
            losses=trained_result(one).losses,
            examination=lesson.examination,
            uses=uses(challenger, lesson.sets, config.recipe.seed),
        )
        finish(challenger.folder, folder, dossier.findings())

    return one.stage("bundle", seal)


def taught(
    config: Config,
    one: Round,
    lesson: Lesson,
    base: Model,
    parent: str | None,
    say: Say,
    champion: Model | None = None,
    load: Load = load_trunk,
) -> Session:
    """The draft of a lesson with its constants: fine-tune, export, calibrate. Where nobody is the
    champion, the base is."""
    model, recipe = config.model, config.recipe
    lesson, vectors = _prepared(lesson, recipe, base)
    teach.check_enough(lesson.learn, lesson.kept)
    categories = model.categories(lesson.learn)
    start = begins_with(config, parent, say)
    trained = one.stage(
        "trained",
        lambda folder: fine_tune(
            recipe,
            model.base_folder,
            [*lesson.learn, *lesson.agreed],
            lesson.kept,
            vectors,
            categories,
            folder,
            say,
            model.pair_template,
            start=start,
            champion=champion or base,
            load=load,
        ),
        goes_on=True,
    )
    order = TrainedOrder(
        base=model.base,
        trained=trained / MODEL,
        pair_template=model.pair_template,
        variants=model.variants,
        categories=categories,
        parent=parent,
        training=msgspec.to_builtins({"model": model, "recipe": recipe, "counts": lesson.counts}),
        max_tokens=recipe.max_tokens,
        spelling=model.spelling,
        domain=teach.domain_of(lesson.learn, lesson.kept, vectors, base.template, say),
    )
    drafted = one.stage("draft", lambda folder: draft(order, folder, say))
    return teach.fitted(open_session(drafted, device="cpu"), lesson.kept, say)


def _prepared(lesson: Lesson, recipe: Recipe, base: Model) -> tuple[Lesson, Mapping[str, Vector]]:
    """The lesson as it is learned, and the base's vectors of its texts: older periods drawn, lists
    and items that nobody showed added, queries read as they are meant, groups weighed."""
    shown, kept = as_read(lesson.learn, base), as_read(lesson.kept, base)
    drawn = replayed(shown, recipe.replay, recipe.seed)
    made = as_read(synthetic(drawn, recipe.augment.synthetic, recipe.seed), base)
    known, lists = [*shown, *made], [*drawn, *made]
    vectors = teach.vectors_of([*known, *kept, *lesson.agreed], base)
    harder = with_negatives(lists, known, vectors, base.template, recipe.augment.hard_negatives)
    weighed = reweighed([*harder, *lesson.agreed], recipe.fairness)
    learn, agreed = weighed[: len(lists)], weighed[len(lists) :]
    return replace(lesson, learn=learn, kept=kept, agreed=agreed), vectors


def trained_result(one: Round) -> Trained:
    """What the round's fine-tuning said of itself."""
    return msgspec.json.decode((one.folder / "trained" / RESULT).read_bytes(), type=Trained)
