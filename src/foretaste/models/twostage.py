"""Two stages as one: models that name candidates, a ranker that orders them, and a policy for the list."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, PositiveInt, model_validator

from foretaste.dataset import Dataset, Needs
from foretaste.errors import ConfigError, DataError, MissingData, UnknownName
from foretaste.evaluation.lists import ItemVectors, item_vectors
from foretaste.fallback import fill_by_popularity
from foretaste.models.parts import Parts, needs_of
from foretaste.policies import FittedPolicy, Policy
from foretaste.query import Holdout, Queries, TopK
from foretaste.ragged import PAD, Ragged
from foretaste.rank.dcnv2 import DCNv2, DCNv2Model
from foretaste.rank.examples import Examples
from foretaste.rank.fields import Fields
from foretaste.rank.gathering import EXAMPLES, TOGETHER, Gathering, parts_of
from foretaste.rank.later import Asked, ExampleKind, Later, kinds_of, later_folds, later_slice
from foretaste.rank.likeness import Likeness
from foretaste.rank.pool import Pool
from foretaste.rank.stage import Stage
from foretaste.rank.tasks import Task
from foretaste.recommender import CHUNK_BYTES, FALLBACK, About, Answer, Model, Settings, hidden_of
from foretaste.run import Log, Run, silent
from foretaste.storage import part, prefixed
from foretaste.train import TrainPlan
from foretaste.validation import ndcg_of_lists

__all__ = ["TwoStage", "TwoStageModel"]

HELD_OUT = 0.1  # of the lists, by which the ranker's epochs are chosen
ASKED = 2000  # queries at most, on which the weights of tasks are tried
SPARE = 5  # candidates for each place of a list that a policy chooses
PAIR_BYTES = 400  # of a candidate that is learned from, with all that is known of it
# There are few lists of which something came, and much that is said of each candidate: small, and held back.
RANKER = DCNv2(
    dim=8,
    group_dim=32,
    input_norm="layer",
    cross_layers=2,
    hidden=(64, 32),
    head_hidden=(),
    dropout=0.2,
    forgetting=0.1,
    judged_by="ndcg",
    batch_size=2048,
    plan=TrainPlan(epochs=20, lr=1e-3, weight_decay=0.05, average=0.99, patience=3),
)


class TwoStage(Settings):
    """Sources name candidates, a ranker tells what would come of each, and a policy makes the list.

    The ranker learns from a later slice of the log than its sources saw, or from the last events of each person: the
    sources are fitted on what came before, asked by those who were there before and after, and what these met later is
    what came of the candidates. Candidates that nothing came of are taken for shown and passed over, which is an
    assumption: the log does not say what was shown. Then the sources are fitted once more, on all of train.
    """

    iterative: ClassVar[bool] = True  # validation chooses epochs of sources, and weights of tasks
    sources: Parts = Field(default={"itemknn": {}, "ease": {}, "als": {}}, validate_default=True)
    """Label -> the settings of a model. In a recipe, ``model`` names its model; without that the label does."""
    candidates: PositiveInt | dict[str, PositiveInt] = 100
    """How many each source names; or label -> how many."""
    ranker: DCNv2 = RANKER
    policy: Policy | None = None
    slice: Annotated[float, Field(gt=0, lt=1)] | Literal["last", "last_item"] = 0.1
    """What the ranker learns from: the last share of the log, or of each user the last event of the strongest kind and
    all after it, or this with its item new to them; see ``later_slice``."""
    folds: Annotated[int, Field(ge=2)] | None = None
    """Deal the people into so many folds, and learn from the last share of the events of each person, by ``slice``:
    for each fold the sources are fitted on all but these events of its people. So nothing that they learn from is old,
    and there is more to learn from, at so many fits. It is for splits by user: the sources see what others did later,
    which after a split by time nobody knows yet. None: one slice, for everybody."""
    examples: ExampleKind | None = None
    """What the ranker learns from: lists that were shown to people, the candidates of the sources with what was met
    later, or both. None: what has the best NDCG@10 on validation; without a validation part both. Where the log tells
    of no list that was shown, candidates."""
    asked: Asked | None = None
    """Who asks for candidates: "users", each once with all of the slice to come; or "events", before each event of it
    with this event to come. None: events where the slice is a share of a log with an order, else users."""
    passed_over: PositiveInt = 50
    """Of each list of candidates, so many drawn from those that nothing came of."""
    lists: PositiveInt = 50_000
    """Lists of each sort at most that the ranker learns from, drawn by chance."""
    filter_seen: bool | None = None
    """Whether what is in a history is no candidate for the ranker to learn from. None: as in validation, else so."""
    exclude_kinds: tuple[str, ...] | None = None
    """With ``filter_seen``, hide only what was met by events of these kinds. None: as in validation, else all."""
    weights: dict[str, float] | None = None
    """Kind of event -> how much its chance counts in the order of a list. None: those with the best NDCG@10 on
    validation; without a validation part those of the ranker's tasks."""

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if not self.sources:
            raise ValueError("sources: at least one model has to name candidates")
        if isinstance(self.candidates, dict) and self.candidates.keys() != self.sources.keys():
            raise ValueError(
                f"candidates are of {', '.join(self.candidates)}; the sources are {', '.join(self.sources)}"
            )
        if self.folds is not None and isinstance(self.slice, str):
            raise ValueError(f"folds cut off a share of the events of each person; slice is {self.slice!r}")
        learned = self.ranker.tasks
        if learned is not None and (strange := [task for task in self.weights or {} if task not in learned]):
            raise ValueError(f"weights names {', '.join(strange)}; the ranker's tasks are {', '.join(learned)}")
        return self

    @property
    def required(self) -> Needs:
        needed = needs_of(self.sources)
        if isinstance(self.slice, str) or self.folds is not None:
            needed |= Needs.ORDER
        return needed | Needs.IMPRESSIONS | Needs.TIMES if self.examples in ("shown", "both") else needed

    def _fit(self, train: Dataset, validation: Holdout | None, run: Run) -> "TwoStageModel":
        tasks = {*kinds_of(train), *(() if train.impressions is None else train.impressions.labels)}
        for task in self.weights or {}:
            if task not in tasks:
                raise UnknownName("task that weighs", task, sorted(tasks))
        laters = self._laters(train, run)
        kinds = self._kinds_of_examples(laters[0], validation)
        about, vectors = About.of(train), item_vectors(train) if self.policy else None
        if self.policy is not None and vectors is not None:
            self.policy.fitted(about.items, about.catalog, vectors)  # so that what it cannot do is said now
        final = self._fitted_sources(self.sources, train, validation, run, "all")
        settled = {label: each.settings_to_refit() for label, each in final.items()}
        asked = self if validation is None else self._asked_like(validation)
        gatherings, likeness = [], Likeness.of(train)
        for number, later in enumerate(laters):
            early = self._fitted_sources(settled, later.early, None, run, f"early-{number}" if number else "early")
            early_stage = Stage.of(early, self.sizes, later.early, later.known, likeness)
            gatherings.append(asked._gathering(early_stage, later, run))
        stage = Stage.of(final, self.sizes, train, likeness=likeness)
        tried: list[TwoStageModel] = []
        for kind in kinds:
            try:
                ranker = self._fitted_ranker(Examples.together([each.examples(kind) for each in gatherings]), run)
            except DataError as error:
                if kind == kinds[-1] and not tried:
                    raise
                run.log(f"twostage: nothing can be learned from {EXAMPLES[kind]}: {error}")
                continue
            weights = self.weights or {name: task.weight for name, task in ranker.tasks.items()}
            settings = asked.model_copy(update={"examples": kind})
            model = TwoStageModel(settings, stage, ranker, weights, vectors, about)
            model.training = {"ranker": ranker.training}
            if validation is not None and len(validation):
                _weigh(model, validation, self.weights is None)
                run.log(f"twostage: from {EXAMPLES[kind]} validation has {model.training['best_score']:.4f}")
            tried.append(model)
        model = max(tried, key=lambda each: each.training.get("best_score", 0.0))
        model._log = run.log
        told = ", ".join(f"{task} {weight:.2f}" for task, weight in model.weights.items())
        run.log(f"twostage: lists are ordered by the chances of {told}")
        model.training |= {"sources": {label: each.training for label, each in final.items()}, "weights": model.weights}
        return model

    def _laters(self, train: Dataset, run: Run) -> list[Later]:
        """The slices that the ranker learns from, each for sources of its own."""
        by_events = Needs.ORDER in train.has and not isinstance(self.slice, str)
        asks = self.asked or ("events" if by_events else "users")
        if self.folds is None or isinstance(self.slice, str):
            return [later_slice(train, self.slice, run, asks, self.lists)]
        return later_folds(train, self.slice, self.folds, run, asks, self.lists)

    def _kinds_of_examples(self, later: Later, validation: Holdout | None) -> tuple[ExampleKind, ...]:
        """What a ranker is to be fitted on; of several, validation chooses.

        Raises:
            MissingData: The log tells of no lists that were shown, and they are asked for.
            ConfigError: No ranker would have all the tasks that weigh.
        """
        if later.shown is None and self.examples in ("shown", "both"):
            raise MissingData(
                f"twostage: examples is {self.examples!r}, and the later slice has no list that was shown. Give "
                "impressions, a longer slice, or examples: candidates."
            )
        judged = validation is not None and len(validation) > 0
        wanted: tuple[ExampleKind, ...] = ("candidates", "both", "shown") if judged else ("both",)
        if self.examples is not None or later.shown is None:
            wanted = (self.examples or "candidates",)
        found = tuple(kind for kind in wanted if set(self.weights or {}) <= later.tasks(kind))
        if not found:
            raise ConfigError(
                f"twostage: weights names {', '.join(self.weights or {})}; from examples {self.examples!r} of this log "
                "not all of these can be learned."
            )
        return found

    def _gathering(self, early: Stage, later: Later, run: Run) -> Gathering:
        hides_seen, kinds = self.filter_seen is not False, self.exclude_kinds or ()
        hidden = partial(hidden_of, kinds=early.kinds, filter_seen=hides_seen, exclude_kinds=kinds)
        return Gathering(early, later, hidden, self.passed_over, self.lists // (self.folds or 1), run)

    def memory_needed(self, counts: Mapping[str, int]) -> int:
        fits = [each.memory_needed(counts) for each in self.sources.values()]
        scores = 4 * min(TOGETHER * counts["items"], CHUNK_BYTES) * len(fits)
        pairs = min(self.lists, counts["users"]) * self.passed_over * PAIR_BYTES
        return max(fits) * (self.folds or 1) + scores + pairs

    def _asked_like(self, validation: Holdout) -> Self:
        """The same settings, hiding of a history what the protocol hides; a later fit without validation does too."""
        hides = {"filter_seen": validation.filter_seen, "exclude_kinds": validation.exclude_kinds}
        return self.model_copy(update={name: told for name, told in hides.items() if getattr(self, name) is None})

    @property
    def sizes(self) -> dict[str, int]:
        """Label -> how many candidates the source names."""
        if isinstance(self.candidates, dict):
            return dict(self.candidates)
        return dict.fromkeys(self.sources, self.candidates)

    def _fitted_sources(
        self, sources: Mapping[str, Settings], data: Dataset, validation: Holdout | None, run: Run, stage: str
    ) -> dict[str, Model]:
        found = {}
        for label, each in sources.items():
            run.log(f"twostage: fitting {label} on {'all of train' if stage == 'all' else 'what came before'}")
            found[label] = each.fit(data, validation, run.of_part(f"{stage}-{label}"))
        return found

    def _fitted_ranker(self, examples: Examples, run: Run) -> DCNv2Model:
        """The ranker; its epochs are chosen on lists held out, then it learns from all."""
        # Minutes, of examples whose sources a resumed run may fit anew: it has no checkpoints.
        ranker = replace(run, checkpoints=None, resume=False)
        lists = np.unique(examples.request)
        if len(lists) < 2:
            return self.ranker.fit(examples, None, ranker)
        held_out = run.rng("twostage", "held out").permutation(lists)[: max(1, round(HELD_OUT * len(lists)))]
        chosen = np.isin(examples.request, held_out)
        tried = self.ranker.fit(examples.take(~chosen), examples.take(chosen), ranker)
        model = self.ranker.for_epochs(int(tried.training["best_epoch"])).fit(examples, None, ranker)
        model.training = {**model.training, "chosen": tried.training}
        return model

    def restore(self, about: About, state: Mapping[str, NDArray[Any]]) -> "TwoStageModel":
        told = json.loads(state["told"].tobytes().decode())
        sources = {label: each.restore(about, part(state, f"source.{label}")) for label, each in self.sources.items()}
        fields = Fields.from_arrays(told["fields"], part(state, "fields"))
        ranker = DCNv2Model(self.ranker, fields, {name: Task(**task) for name, task in told["tasks"].items()}, Run())
        ranker.load_state({name: torch.from_numpy(each) for name, each in part(state, "ranker").items()})
        vectors = None
        if told["vectors"] is not None:
            vectors = ItemVectors(state["vectors.values"], state["vectors.known"], told["vectors"])
        stage = Stage.restored(sources, self.sizes, about, told["stage"], part(state, "stage"))
        return TwoStageModel(self, stage, ranker, told["weights"], vectors, about)


class TwoStageModel(Model):
    """Fitted sources, a fitted ranker, and a policy."""

    settings: TwoStage

    def __init__(
        self,
        settings: TwoStage,
        stage: Stage,
        ranker: DCNv2Model,
        weights: Mapping[str, float],
        vectors: ItemVectors | None,
        about: About,
    ) -> None:
        super().__init__(settings, about)
        self.stage, self.ranker, self.weights, self.vectors = stage, ranker, dict(weights), vectors
        self._policy: FittedPolicy | None = None
        if settings.policy is not None and vectors is not None:
            self._policy = settings.policy.fitted(about.items, about.catalog, vectors)
        self._log: Log = silent

    @property
    def parameters(self) -> int:
        return self.ranker.parameters + sum(each.parameters for each in self.stage.sources.values())

    @property
    def sources(self) -> tuple[str, ...]:
        return (*self.stage.sources, FALLBACK, *(["policy"] if self._policy is not None else []))

    def state(self) -> dict[str, NDArray[Any]]:
        told = {
            "stage": self.stage.schema(),
            "fields": self.ranker.fields.schema(),
            "tasks": {name: task.model_dump(mode="json") for name, task in self.ranker.tasks.items()},
            "weights": self.weights,
            "vectors": None if self.vectors is None else self.vectors.of,
        }
        state: dict[str, NDArray[Any]] = {"told": np.frombuffer(json.dumps(told).encode(), np.uint8).copy()}
        for label, each in self.stage.sources.items():
            state |= prefixed(f"source.{label}", each.state())
        state |= prefixed("stage", self.stage.arrays())
        state |= prefixed("fields", self.ranker.fields.arrays())
        state |= prefixed("ranker", self.ranker.state())
        if self.vectors is not None:
            state |= {"vectors.values": self.vectors.values, "vectors.known": self.vectors.known}
        return state

    def answerable(self) -> NDArray[np.bool_]:
        """(items,) those of which any source knows something."""
        return self.stage.answerable()

    def settings_to_refit(self) -> TwoStage:
        sources = {label: each.settings_to_refit() for label, each in self.stage.sources.items()}
        told = {"sources": sources, "weights": self.weights, "examples": self.settings.examples}
        return self.settings.model_copy(update=told)

    def similar_items(self, items: Sequence[Any], k: int = 10) -> TopK:
        """In the eyes of the first source that knows a likeness."""
        self._known(items)
        for each in self.stage.sources.values():
            try:
                return each.similar_items(items, k)
            except ConfigError:
                continue
        return super().similar_items(items, k)

    def chances(
        self, queries: Queries, hidden: Ragged | None = None, offered: NDArray[np.bool_] | None = None
    ) -> tuple[Pool, dict[str, NDArray[np.float32]]]:
        """The candidates of some queries, and task -> (queries, candidates) the chance of each; NaN at PAD."""
        pool = self.stage.with_histories(self.histories).pool(queries, hidden, offered)
        predicted = self.ranker.predict(self.stage.examples(queries, pool))
        found = {}
        for task, chances in predicted.items():
            found[task] = np.full(pool.items.shape, np.nan, np.float32)
            found[task][pool.items != PAD] = chances
        return pool, found

    def _answered(self, queries: Queries, k: int, hidden: Ragged | None, offered: NDArray[np.bool_] | None) -> Answer:
        found = np.full((len(queries), k), PAD, np.int32)
        scores, source = np.full((len(queries), k), -np.inf, np.float32), np.full((len(queries), k), PAD, np.int8)
        for rows in parts_of(np.arange(len(queries))):
            own = None if hidden is None else hidden.take(rows)
            found[rows], scores[rows], source[rows] = self._listed(queries.take(rows), k, own, offered)
        return found, scores, source

    def _listed(self, queries: Queries, k: int, hidden: Ragged | None, offered: NDArray[np.bool_] | None) -> Answer:
        """The best candidates by the ranker, behind them what is popular; of these the list that the policy chooses."""
        if self._policy is not None:
            allowed = self._policy.allowed
            offered = allowed if offered is None else offered & allowed
        pool, chances = self.chances(queries, hidden, offered)
        total = _weighted(pool, chances, self.weights)
        width = k if self._policy is None else max(k * SPARE, pool.items.shape[1])
        order = np.argsort(-total, axis=1, kind="stable")[:, :width]
        lacking = ((0, 0), (0, width - order.shape[1]))
        items = np.pad(np.take_along_axis(pool.items, order, 1), lacking, constant_values=PAD)
        source = np.pad(np.take_along_axis(pool.first, order, 1), lacking, constant_values=PAD)
        scores = np.pad(np.take_along_axis(total, order, 1), lacking, constant_values=-np.inf)
        short = np.flatnonzero(items[:, k - 1] == PAD)
        if len(short):
            named = source.copy()
            fill_by_popularity(self.about.popularity, short, items, scores, source, hidden, offered)
            source[(named == PAD) & (source != PAD)] = len(self.stage.sources)
        if self._policy is None:
            return items, scores, source
        top = TopK(items, scores, source, self.sources[:-1], self.items)
        chosen = self._policy.choose(top, queries.history, k, self._log, offered=offered)
        return chosen.items, chosen.scores, chosen.source

    def _scores(self, queries: Queries) -> torch.Tensor:
        """What the ranker says of the candidates; -inf of all other items."""
        pool, chances = self.chances(queries)
        scores = torch.full((len(queries), len(self.items)), -torch.inf)
        row, place = np.nonzero(pool.items != PAD)
        total = _weighted(pool, chances, self.weights)
        scores[row, pool.items[row, place]] = torch.from_numpy(total[row, place])
        return scores


def _weigh(model: TwoStageModel, validation: Holdout, choose: bool) -> None:
    """Score the model by NDCG@10 on some validation queries.

    Args:
        choose: Take the weights of tasks that are best there: each task alone, or all as they are.
    """
    rows = np.linspace(0, len(validation) - 1, min(ASKED, len(validation))).astype(np.int64)
    holdout = validation.take(rows)
    hidden = model._hidden(holdout.queries, holdout.filter_seen, holdout.exclude_kinds)
    offered = None if holdout.offered is None else np.isin(np.arange(len(model.items)), holdout.offered)
    pool, chances = model.chances(holdout.queries, hidden, offered)
    tried = [dict(model.weights)]
    if choose:
        tried += [{task: float(task == one) for task in model.weights} for one in model.weights]

    def score(weights: Mapping[str, float]) -> float:
        total = _weighted(pool, chances, weights)
        order = np.argsort(-total, axis=1, kind="stable")[:, :11]
        return ndcg_of_lists(np.take_along_axis(pool.items, order, 1), np.take_along_axis(total, order, 1), holdout)

    scores = [score(weights) for weights in tried]
    best = int(np.argmax(scores))
    model.weights, model.training["best_score"] = tried[best], scores[best]


def _weighted(
    pool: Pool, chances: Mapping[str, NDArray[np.float32]], weights: Mapping[str, float]
) -> NDArray[np.float32]:
    """(queries, candidates) the chances of each, added up by the weights of their tasks; -inf at PAD."""
    total = np.zeros(pool.items.shape, np.float32)
    for task, weight in weights.items():
        total += np.float32(weight) * chances[task]
    return np.where(pool.items == PAD, -np.inf, total).astype(np.float32)
