"""One model: from a log to a bundle, and a bundle judged by events that it has not seen."""

import math
import shutil
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from foretaste.ann import IndexKind, faiss_module
from foretaste.answers import Protocol, holdout_of_events
from foretaste.dataset import Dataset, Needs
from foretaste.errors import ConfigError, DataError, MissingData
from foretaste.evaluation import Entry, Leaderboard, Trial
from foretaste.models.popular import FixedRanking, Popular
from foretaste.query import Holdout
from foretaste.recommender import Model, Settings
from foretaste.run import Run, silent
from foretaste.scoring import VectorModel
from foretaste.sequential import SequenceModel, SequenceSettings
from foretaste.split import Split
from foretaste.split.parts import from_end, impressions_before, part_of_users
from foretaste.storage import check_place

__all__ = ["ValidateBy", "fit_chosen", "judge_bundle", "means", "train_bundle", "validation_part"]

ValidateBy = Literal["last", "time", "none"]
LAST_SHARE = 0.1  # of the events, by time, are held out under "time"


def fit_chosen(settings: Settings, split: Split, run: Run) -> Model:
    """Fit as a protocol has it: choose the epoch on validation; then, where the split says so, learn from all of it."""
    if split.refit is None:
        return settings.fit(split.train, split.validation, run)
    if not settings.iterative or split.validation is None:
        return settings.fit(split.final, None, run)
    return refitted(settings.fit(split.train, split.validation, run), split.final, run)


def refitted(chosen: Model, data: Dataset, run: Run) -> Model:
    """The same settings fitted on all of ``data``, for as many epochs as validation chose.

    The learning curve is that of the choice, and so are the settings: how many epochs were fitted in the end stands
    in ``training`` as refitted_epochs, None for models without epochs.
    """
    epochs = chosen.training.get("best_epoch")
    run.log(f"{chosen.name}: now fitted on all {len(data):,} events" + (f", {epochs} epochs" if epochs else ""))
    checkpoints = None if run.checkpoints is None else run.checkpoints.with_name(run.checkpoints.name + "-refit")
    model = chosen.settings_to_refit().fit(data, None, replace(run, checkpoints=checkpoints))
    model.settings, model.metrics = chosen.settings, chosen.metrics
    model.training = {**chosen.training, "refitted_epochs": epochs}
    return model


def train_bundle(
    settings: Settings,
    data: Dataset,
    out: Path,
    run: Run,
    *,
    by: ValidateBy | None = None,
    refit: bool = False,
    histories: bool = True,
    eight_bit: bool = False,
    index: IndexKind | None = None,
    resume: bool = False,
) -> Model:
    """Fit on a log, choose the epoch by what is held out, and write the bundle.

    Args:
        by: What is held out; None: the last event of each user where the order is meant, else nothing.
        refit: Then fit so many epochs on everything, the held-out part included.
        histories: Store the users' histories, of the whole log, in the bundle.
        index: Keep an index of the items, of this kind, in which lists are searched.
        eight_bit: Keep the weights of a network as int8; the quality that the bundle states is then that of those.
        resume: Go on from the checkpoint that an interrupted fit left beside ``out``.

    Raises:
        ConfigError: ``eight_bit`` is asked of a model that does not read in order, or ``index`` of one without vectors.
    """
    if eight_bit and not isinstance(settings, SequenceSettings):
        raise ConfigError(f"{settings.called()} keeps no weights in 8 bits; the sequence models do.")
    if index is not None:
        faiss_module()  # what is lacking shows now, not after the fit
        if not settings.by_vectors:
            raise ConfigError(f"{settings.called()} answers by no vectors, so there is nothing to index.")
    data.require(settings.required, type(settings).__name__)
    check_place(out, marker="model.json")  # a place that cannot be written shows now, not after the fit
    if by is None:
        by = "last"
        if not data.ordered:
            by = "none"
            run.log("nothing is held out for validation: the log has neither times nor a stated order (--ordered)")
        elif np.diff(data.offsets).max(initial=0) < 2:
            by = "none"
            run.log("nothing is held out for validation: no user has two events")
    train, validation = (data, None) if by == "none" else validation_part(data, by)
    checkpoints = out.parent / f".{out.name}-checkpoint"
    run = replace(run, checkpoints=checkpoints, resume=resume)
    begun = time.perf_counter()
    try:
        chosen = settings.fit(train, validation, run)
    except DataError as error:
        if validation is None or isinstance(error, MissingData):
            raise
        raise DataError(f"{error} Events are held out for validation; --validate-by none learns from all.") from error
    run.log(f"{chosen.name}: fitted on {len(train):,} events in {time.perf_counter() - begun:.1f} s")
    model = _to_keep(chosen, eight_bit)
    if validation is not None:
        metrics = _validated(model, train, validation, run)
        if refit:
            model = _to_keep(refitted(chosen, data, run), eight_bit)
        model.metrics = metrics
    if histories:
        model = model.with_histories(data, run.log)
    if index is not None and isinstance(model, VectorModel):
        model = model.with_index(index, log=run.log)
    model.save(out)
    for folder in (checkpoints, checkpoints.with_name(checkpoints.name + "-refit")):
        shutil.rmtree(folder, ignore_errors=True)
    return model


def _to_keep(model: Model, eight_bit: bool) -> Model:
    return model.in_eight_bits() if eight_bit and isinstance(model, SequenceModel) else model


def validation_part(data: Dataset, by: Literal["last", "time"]) -> tuple[Dataset, Holdout]:
    """What to learn from, and what to choose by.

    Raises:
        MissingData: "last" needs an order, "time" times.
        DataError: Nobody has events on both sides of the cut.
    """
    if by == "last":
        data.require(Needs.ORDER, "Validation by the last event")
        row, asked = from_end(data, None, 1)
        asked &= row > data.offsets[:-1]
        held = np.zeros(len(data), bool)
        held[row[asked]] = True
        train = data.where(~held)
        if data.impressions is not None:
            # What was shown with a held out event tells of it.
            always = np.iinfo(np.int64).max
            until = None if data.time is None else np.where(asked, data.time[(row - 1).clip(0)], always)
            train = replace(train, impressions=impressions_before(data, until, held))
    else:
        data.require(Needs.TIMES, "Validation by time")
        moments: NDArray[np.int64] = data.time  # type: ignore[assignment]
        cut = int(np.sort(moments)[int((1 - LAST_SHARE) * (len(data) - 1))])
        held, train = moments >= cut, data.before(cut)
        both = np.bincount(data.user[held], minlength=len(data.users)) > 0
        asked = both & (np.bincount(data.user[~held], minlength=len(data.users)) > 0)
    if not asked.any():
        raise DataError(
            f"Nobody in {data.name} has events on both sides of a cut by {by}, so nothing can be validated. "
            "Use --validate-by none."
        )
    return train, part_of_users(data, asked, ~held, held, name="validation").holdout


def judge_bundle(
    model: Model,
    events: Dataset,
    protocol: Protocol,
    k: Sequence[int],
    filter_seen: bool,
    exclude_kinds: Sequence[str],
    max_queries: int | None,
    run: Run,
) -> Leaderboard:
    """A bundle beside the popularity that it was fitted on, judged by test events."""
    holdout = holdout_of_events(model, events, protocol)
    known = _met_before(model, events) if protocol == "later" else 0
    if protocol == "last":
        model = model.with_histories(events, silent)  # the queries number their users as the test log does
    trial = Trial.of(
        holdout, k=k, filter_seen=filter_seen, exclude_kinds=exclude_kinds, max_queries=max_queries, seed=run.seed
    )
    rows: dict[str, Model] = {model.name: model}
    if model.name != "popular":
        rows["popular"] = FixedRanking(Popular(), model.about, model.about.popularity)
    sentences = [f"Every user's test events are judged {protocol!r}: " + SENTENCES[protocol]]
    alone = int((np.diff(events.offsets) == 1).sum())
    if protocol == "last" and alone:
        sentences.append(f"{alone:,} users with a single test event are not asked: nothing stands before it.")
        run.log(sentences[-1])
    return Leaderboard.of(
        [trial.entry(name, each, run.log) for name, each in rows.items()],
        trial,
        dataset={"name": events.name, "fingerprint": events.fingerprint, "counts": events.counts()},
        protocol={"kind": protocol, "bundle": model.about.fingerprint, "sentences": sentences},
        leak_report={"test_events_in_stored_histories": known},
    )


SENTENCES = {
    "later": "the stored histories are the past, and all items of the test events are targets.",
    "last": "the last test event of each user is the target, the test events before it are the history.",
}


def means(entry: Entry) -> dict[str, float | None]:
    """What a bundle keeps of an entry; None where there was nothing to average."""
    averages = {name: value.mean for name, value in entry.metrics.items()}
    return {name: None if mean is None or not math.isfinite(mean) else mean for name, mean in averages.items()}


def _validated(model: Model, train: Dataset, validation: Holdout, run: Run) -> dict[str, float | None]:
    """Quality on what the epoch was chosen by, said beside that of popularity."""
    trial = Trial.of(validation, train=train, k=(10,), filter_seen=validation.filter_seen, seed=run.seed)
    entry = trial.entry(model.name, model)
    popular = trial.entry("popular", Popular().fit(train))
    found, base = entry.metrics["ndcg@10"], popular.metrics["ndcg@10"]
    run.log(
        f"{model.name}: validation ndcg@10 {found.mean:.4f} [{found.low:.4f}, {found.high:.4f}] "
        f"over {found.n:,} queries; popular {base.mean:.4f}"
    )
    return {f"validation {name}": mean for name, mean in means(entry).items()}


def _met_before(model: Model, events: Dataset) -> int:
    """How many test events (user and item) stand in the stored histories already."""
    if model.histories is None:
        return 0
    history = model.histories.queries.history
    size = len(model.items)
    stored = np.unique(history.row_of_value() * size + history.values)
    user = model.histories.users.index(events.users.lists())[events.user]
    item = model.items.index(events.items.lists())[events.item]
    known = (user >= 0) & (item >= 0)
    return int(np.isin(user[known].astype(np.int64) * size + item[known], stored).sum())
