"""A whole run: data, split, models, evaluation; a run directory that grows as the work does."""

import os
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from foretaste.answer_files import write_frame
from foretaste.bundle import INDEX, load
from foretaste.dataset import Dataset, Needs
from foretaste.errors import ConfigError, DataError, TooLarge, TrainingDiverged, UnknownName
from foretaste.evaluation import Entry, Leaderboard, Trial
from foretaste.evaluation.checks import ORACLE
from foretaste.evaluation.lists import item_vectors
from foretaste.evaluation.ratings import rating_error
from foretaste.evaluation.report import Example, write_report
from foretaste.fitting import fit_chosen, means
from foretaste.memory import forget_peak, machine, peak_memory
from foretaste.oracle import OracleModel
from foretaste.policies.tradeoff import tradeoff
from foretaste.query import Holdout, TopK
from foretaste.ragged import PAD
from foretaste.recipe import DataSettings, EvaluationSettings, Recipe
from foretaste.recommender import Model, Settings
from foretaste.run import Run
from foretaste.sealed_folder import versions
from foretaste.simulate import World, simulate
from foretaste.split import Given, LeaveOneOut, Split
from foretaste.storage import read_json, staged_file

if TYPE_CHECKING:
    pass

__all__ = ["Loaded", "carry_out", "load_data", "prepare", "split_data"]

EXAMPLES = 4  # users shown in the report


@dataclass(frozen=True, eq=False)
class Loaded:
    """The data of a recipe."""

    data: Dataset
    test: Dataset | None = None  # where the publisher gives a test part, ``data`` is the train part
    world: World | None = None  # where the shop is simulated, its truth


def load_data(settings: DataSettings, split_kind: str, data_dir: Path | None, run: Run) -> Loaded:
    """Read, download or simulate the data.

    Raises:
        DataError: It is not there, or cannot be used.
    """
    from foretaste import sources
    from foretaste.events import Columns, read_events, read_impressions

    if settings.shop is not None:
        world = simulate(settings.shop)
        return Loaded(_kept(world.data, settings, run), world=world)
    if settings.source is not None:
        if split_kind == "given":
            parts = sources.load_given(settings.source, data_dir, run.log, run.progress)
            return Loaded(_kept(parts.train, settings, run), test=_kept(parts.test, settings, run))
        return Loaded(_kept(sources.load(settings.source, data_dir, run.log, run.progress), settings, run))
    if split_kind == "given":
        raise ConfigError("split.kind given needs data.source, a published data set with train and test files.")
    data = read_events(
        str(settings.events),
        items=settings.items,
        users=settings.users,
        columns=Columns(**settings.columns.model_dump()),
        kinds=settings.kinds,
        ordered=settings.ordered,
        log=run.log,
    )
    if settings.impressions is not None:
        data = read_impressions(settings.impressions, data, log=run.log)
    return Loaded(_kept(data, settings, run))


def split_data(recipe: Recipe, loaded: Loaded, data_dir: Path | None) -> Split:
    """Cut the data as the recipe says."""
    from foretaste import sources

    rule = recipe.split
    if isinstance(rule, Given):
        if loaded.test is None:
            raise ConfigError("split.kind given needs data.source, a published data set with train and test files.")
        return rule.split(loaded.data, loaded.test)
    if isinstance(rule, LeaveOneOut) and rule.validation_users == Path("published"):
        users = None if recipe.data.source is None else sources.validation_users(recipe.data.source, data_dir)
        if users is None:
            raise ConfigError(
                f"split.validation_users: published, but {loaded.data.name} publishes none; give a number."
            )
        rule = rule.model_copy(update={"validation_users": tuple(users.tolist())})
    return rule.split(loaded.data)


def judged_as(split: Split, evaluation: EvaluationSettings) -> Split:
    """The split with the seen filter of the evaluation, for validation too: epochs are chosen by what is judged."""
    filter_seen = split.filter_seen if evaluation.filter_seen is None else evaluation.filter_seen

    def judged(holdout: Holdout) -> Holdout:
        return replace(holdout, filter_seen=filter_seen, exclude_kinds=evaluation.exclude_kinds)

    validation = None if split.validation is None else judged(split.validation)
    return replace(split, validation=validation, test=judged(split.test), filter_seen=filter_seen)


def carry_out(
    recipe: Recipe, out: Path, run: Run, *, data_dir: Path | None = None, resume: bool = False, command: str = ""
) -> Leaderboard:
    """Do what a recipe says; the run directory holds everything that came of it.

    Args:
        out: The run directory. An earlier run in it is replaced, or with ``resume`` gone on with.

    Raises:
        ForetasteError: The recipe, the data or the place is wrong.
    """
    settings = recipe.settings()
    loaded = load_data(recipe.data, recipe.split.kind, data_dir, run)
    run.log(f"data: {loaded.data!r}")
    split = judged_as(split_data(recipe, loaded, data_dir), recipe.evaluation)
    for sentence in (*split.protocol["sentences"], *split.leaks.sentences()):
        run.log(f"split: {sentence}")
    trial = Trial.of(
        split.test,
        train=split.final,
        k=recipe.evaluation.k,
        max_queries=recipe.evaluation.max_queries,
        seed=run.seed,
    )
    _begin(out, recipe, resume)  # only now: a recipe that fails on its data leaves an earlier run alone
    work = _Work(recipe, out, run, loaded, split, trial, resume, command, _people(trial, run))
    entries: list[Entry] = []
    if loaded.world is not None:
        entries.append(work.oracle(loaded.world))
    for name, each in settings.items():
        entries.append(work.row(name, each))
        work.publish(entries)
    board = work.publish(entries)
    return board if not recipe.evaluation.policies else work.publish(entries, work.policies(board))


@dataclass(frozen=True, eq=False)
class _Work:
    """What the steps of one run share."""

    recipe: Recipe
    out: Path
    run: Run
    loaded: Loaded
    split: Split
    trial: Trial
    resume: bool
    command: str
    people: NDArray[np.int64]  # rows of the test queries that the report shows
    shown: dict[str, TopK] = field(default_factory=dict)  # what each model has for them

    def oracle(self, world: World) -> Entry:
        views_only = getattr(self.recipe.split, "target_kinds", None) == ("view",)
        model = OracleModel(world, self.split.final, "view" if views_only else "event")
        entry = self.trial.entry("oracle", model, self.run.log)
        self._keep_lists("oracle", model)
        return replace(entry, settings={"what": "the true chances of the simulated shop: the best possible"})

    def row(self, name: str, settings: Settings) -> Entry:
        """The leaderboard's row of a model, over its seeds; a model that cannot take part says why."""
        entries = []
        for number in range(self.recipe.evaluation.seeds):
            try:
                entries.append(self._seed(name, settings, number))
            except (DataError, TooLarge, TrainingDiverged) as error:
                self.run.log(f"{name} takes no part: {error}")
                return Entry(name, settings=settings.model_dump(mode="json"), why_absent=str(error))
        return self.trial.over_seeds(entries)

    def policies(self, board: Leaderboard) -> dict[str, Any]:
        """What list policies give and cost the best row that is a model; nothing where there is none."""
        best = next((each.name for each in board.entries if each.metrics and each.name != ORACLE), None)
        if best is None:
            return {}
        model = load(self.out / "models" / best)
        aims, train = self.recipe.evaluation.policies, self.split.final
        return {
            "row": best,
            **tradeoff(model, self.trial, model.about.catalog, item_vectors(train), aims, self.run.log),
        }

    def publish(self, entries: Sequence[Entry], policies: Mapping[str, Any] | None = None) -> Leaderboard:
        """Write the leaderboard and the report as far as they have come."""
        counts = {**self.loaded.data.counts(), "train_events": len(self.split.final)}
        board = Leaderboard.of(
            entries,
            self.trial,
            dataset={
                "name": self.loaded.data.name,
                "fingerprint": self.loaded.data.fingerprint,
                "counts": counts,
                "span": _span(self.loaded.data),
                "kinds": list(self.loaded.data.kinds.names),
            },
            protocol=dict(self.split.protocol),
            leak_report=self.split.leaks.to_json(),
            about={
                "command": self.command,
                "created": datetime.now(UTC).isoformat(timespec="seconds"),
                "versions": versions(),
                "machine": machine(),
                "seed": self.run.seed,
                "seeds": self.recipe.evaluation.seeds,
            },
        )
        board = replace(board, policies=policies or {})
        board.save(self.out)
        self._keep_queries(entries)
        content = read_json(self.out / "leaderboard.json")
        write_report(self.out / "report.html", content, examples=self._examples(), title=self.recipe.name)
        return board

    def _seed(self, name: str, settings: Settings, number: int) -> Entry:
        seed = self.run.seed + number
        label = name if number == 0 else f"{name}-seed{seed}"
        folder = self.out / "models" / label
        run = replace(self.run, seed=seed, checkpoints=self.out / "checkpoints" / label, resume=self.resume)
        model = self._finished(folder, settings, seed)
        if model is None:
            self.run.log(f"{label}: fitting on {len(self.split.final):,} events")
            measured = forget_peak()
            begun = time.perf_counter()
            model = fit_chosen(settings, self.split, run)
            model.training |= {
                "seed": seed,
                "fit_seconds": time.perf_counter() - begun,
                "peak_memory_mb": peak_memory() / 2**20 if measured else None,
            }
            self.run.log(f"{label}: fitted in {model.training['fit_seconds']:.1f} s")
        entry = self.trial.entry(name, model, self.run.log)
        model.metrics = means(entry)
        model.with_histories(self.loaded.data, self.run.log).save(folder)
        shutil.rmtree(self.out / "checkpoints" / label, ignore_errors=True)
        shutil.rmtree(self.out / "checkpoints" / f"{label}-refit", ignore_errors=True)
        if number == 0:
            self._keep_lists(name, model)
        best = model.training.get("best_score")
        return replace(
            entry,
            fit_seconds=model.training["fit_seconds"],
            peak_memory_mb=model.training["peak_memory_mb"],
            validation={} if best is None else {"ndcg@10": best},
            curve=model.training.get("curve", ()),
            rating_rmse=rating_error(model, self.loaded.data, self.trial.holdout, self.run.log),
        )

    def _finished(self, folder: Path, settings: Settings, seed: int) -> Model | None:
        """The model of an interrupted run, where it was finished with these settings, this data and this seed."""
        if not self.resume or not (folder / INDEX).exists():
            return None
        model = load(folder)
        same = (
            model.settings == settings
            and model.about.fingerprint == self.split.final.fingerprint
            and model.training.get("seed") == seed
        )
        if same:
            self.run.log(f"{folder.name}: already fitted, taken from {folder}")
        return model if same else None

    def _keep_lists(self, name: str, model: Model) -> None:
        """recommendations/NAME.parquet: what the test users were offered."""
        queries = self.trial.holdout.queries
        offered = self.trial.holdout.offered
        top = model.recommend(
            queries,
            max(self.trial.k),
            filter_seen=self.trial.filter_seen,
            exclude_kinds=self.trial.exclude_kinds,
            items=None if offered is None else model.items.lookup(offered),
        )
        labels = None if queries.user is None else self.split.final.users.lookup(queries.user)
        write_frame(replace(top, labels=labels).frame(), self.out / "recommendations" / f"{name}.parquet")
        self.shown[name] = replace(
            top,
            items=top.items[self.people, :10],
            scores=top.scores[self.people, :10],
            source=top.source[self.people, :10],
        )

    def _keep_queries(self, entries: Sequence[Entry]) -> None:
        """queries.parquet: what each model scored on each test query; all means and tests can be made from it again."""
        import polars as pl

        users = self.trial.holdout.queries.user
        columns = {"user_id": range(len(self.trial.holdout)) if users is None else self.split.final.users.lookup(users)}
        values = {f"{each.name} {name}": scored for each in entries for name, scored in each.per_query.items()}
        write_frame(pl.DataFrame({**columns, **values}, strict=False), self.out / "queries.parquet")

    def _examples(self) -> list[Example]:
        """A few people with what they met, what they met next, and what each model had for them."""
        holdout = self.trial.holdout
        titles = self.split.final.catalog.titles() if self.split.final.catalog is not None else None
        called = [str(each) for each in (titles or self.split.final.items.lists())]
        users = (
            None if holdout.queries.user is None else self.split.final.users.lookup(holdout.queries.user[self.people])
        )
        return [
            Example(
                user=str(row if users is None else users[at]),
                history=[called[item] for item in holdout.queries.history[row][-12:]],
                target=[called[item] for item in holdout.targets[row][:12]],
                lists={
                    name: [
                        (called[item], top.sources[source], bool(item in holdout.targets[row]))
                        for item, source in zip(top.items[at].tolist(), top.source[at].tolist(), strict=True)
                        if item != PAD
                    ]
                    for name, top in self.shown.items()
                },
            )
            for at, row in enumerate(self.people)
        ]


def _people(trial: Trial, run: Run) -> NDArray[np.int64]:
    """A few test queries, drawn by seed among those with some history to look at."""
    lengths = trial.holdout.queries.history.lengths
    able = np.flatnonzero(lengths >= np.median(lengths))
    return np.sort(run.rng("report", "people").choice(able, min(EXAMPLES, len(able)), replace=False))


def prepare(out: Path) -> None:
    """Make the run directory, or see that it can be written to; what an earlier run left in it stays as yet.

    Raises:
        ConfigError: Something else is there, or the place cannot be written.
    """
    if out.exists() and not out.is_dir():
        raise ConfigError(f"--out {out} is a file; name a folder.")
    try:
        inside = {each.name for each in out.iterdir()} if out.is_dir() else set()
        if inside and not inside & {"recipe.yaml", "log.jsonl"}:
            raise ConfigError(f"--out {out} holds other things than a run; it is left alone. Name another folder.")
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"Cannot write to {out}: {error.strerror or error}.") from error
    if not os.access(out, os.W_OK):
        raise ConfigError(f"Cannot write to {out}: it is read-only.")


def _begin(out: Path, recipe: Recipe, resume: bool) -> None:
    """Write the recipe into the run directory; what an earlier run left goes, unless it is to be gone on with."""
    if not resume:
        for part in ("models", "recommendations", "checkpoints"):
            shutil.rmtree(out / part, ignore_errors=True)
        for file in ("leaderboard.json", "leaderboard.csv", "leaderboard.md", "report.html"):
            (out / file).unlink(missing_ok=True)
    for unfinished in [*out.glob(".*"), *out.glob("*/.*")]:  # what a killed run was writing when it was killed
        shutil.rmtree(unfinished) if unfinished.is_dir() else unfinished.unlink()
    with staged_file(out / "recipe.yaml") as aside:
        aside.write_text(recipe.to_yaml(), encoding="utf-8")


def _kept(data: Dataset, settings: DataSettings, run: Run) -> Dataset:
    """The events of the kinds and values that the recipe keeps; how many it leaves out is said."""
    keep = np.ones(len(data), bool)
    if settings.keep_kinds is not None:
        data.require(Needs.KINDS, "data.keep_kinds")
        for kind in settings.keep_kinds:
            if kind not in data.kinds.names:
                raise UnknownName("event kind", kind, data.kinds.names)
        keep &= np.isin(data.kind, [data.kinds.names.index(kind) for kind in settings.keep_kinds])  # type: ignore[arg-type]
    if settings.min_value is not None:
        data.require(Needs.VALUES, "data.min_value")
        keep &= data.value >= settings.min_value  # type: ignore[operator]
    if not keep.any():
        raise DataError(f"No event of {data.name} is left by data.keep_kinds and data.min_value. Loosen them.")
    if keep.all():
        return data
    left_out = int((~keep).sum())
    run.log(f"data: {left_out:,} of {len(data):,} events left out by keep_kinds and min_value", {"left_out": left_out})
    return data.where(keep)


def _span(data: Dataset) -> list[str] | None:
    """First and last moment, in ISO text; None without times."""
    if data.time is None or not len(data):
        return None
    ends = (int(data.time.min()), int(data.time.max()))
    return [datetime.fromtimestamp(end / 1000, UTC).isoformat(timespec="seconds") for end in ends]
