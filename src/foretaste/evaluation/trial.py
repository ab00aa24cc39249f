"""How models are judged: the same queries, the same cut-offs, the same filters for all of them."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from foretaste.dataset import Dataset
from foretaste.errors import ConfigError, DataError
from foretaste.evaluation import lists
from foretaste.evaluation.entry import Answers, Entry
from foretaste.evaluation.intervals import SAMPLES, Interval, intervals
from foretaste.evaluation.metrics import METRICS, cutoffs, measured, primary, recall
from foretaste.evaluation.table import FULL
from foretaste.evaluation.tally import Tally
from foretaste.query import Holdout
from foretaste.run import Log, Run, silent

if TYPE_CHECKING:
    from foretaste.recommender import Recommender

__all__ = ["Trial"]

CHUNK = 16_384  # queries asked at a time


@dataclass(frozen=True, eq=False)
class Trial:
    """A holdout made ready, so that models can be judged one after the other and let go of.

    Beside the model, one call of ``entry`` holds the lists of ``chunk`` queries (about 30 × (largest k + 1) bytes each)
    and 8 bytes per query and metric.
    """

    holdout: Holdout  # only queries that have a target, at most max_queries of them
    k: tuple[int, ...]
    popularity: NDArray[np.int64] | None  # (items,) training events; None = not known
    vectors: lists.ItemVectors | None
    filter_seen: bool
    exclude_kinds: tuple[str, ...]
    seed: int
    chunk: int
    samples: int
    sampling: Mapping[str, int]  # how many queries there were, and why some are not asked

    @classmethod
    def of(
        cls,
        holdout: Holdout,
        *,
        train: Dataset | None = None,
        k: int | Sequence[int] = (5, 10, 20),
        filter_seen: bool | None = None,
        exclude_kinds: Sequence[str] | None = None,
        max_queries: int | None = None,
        seed: int = 0,
        chunk: int = CHUNK,
        samples: int = SAMPLES,
    ) -> "Trial":
        """Make a holdout ready; the arguments are those of ``evaluate``.

        Raises:
            ConfigError: A cut-off, ``max_queries`` or ``chunk`` is below 1, or kinds are named with the filter off.
            DataError: No query has a target.
        """
        for name, value in (("max_queries", max_queries), ("chunk", chunk), ("samples", samples)):
            if value is not None and value < 1:
                raise ConfigError(f"{name} must be at least 1; it is {value}.")
        filter_seen = holdout.filter_seen if filter_seen is None else filter_seen
        exclude_kinds = holdout.exclude_kinds if exclude_kinds is None else exclude_kinds
        if exclude_kinds and not filter_seen:
            raise ConfigError(
                f"exclude_kinds ({', '.join(exclude_kinds)}) narrows what the seen filter hides, but the filter is "
                "off. Turn it on with filter_seen, or leave exclude_kinds out."
            )
        asked = np.flatnonzero(_totals(holdout) > 0)
        if not len(asked):
            raise DataError(
                f"None of the {len(holdout)} queries of {holdout.name!r} has a target; nothing to judge by."
            )
        sampling = {"queries_given": len(holdout), "queries_without_target": len(holdout) - len(asked)}
        if max_queries is not None and max_queries < len(asked):
            rng = Run(seed).rng("evaluation", "queries")
            asked = np.sort(rng.choice(asked, max_queries, replace=False))
        return cls(
            holdout if len(asked) == len(holdout) else holdout.take(asked),
            cutoffs(k),
            None if train is None else lists.popularity(train),
            None if train is None else lists.item_vectors(train),
            filter_seen,
            tuple(exclude_kinds),
            seed,
            chunk,
            samples,
            sampling,
        )

    def entry(self, name: str, model: "Recommender", log: Log = silent) -> Entry:
        """The row of a model. Settings, parameters and learning curve are filled in where it is a fitted ``Model``.

        Raises:
            DataError: The model knows other items than the holdout, or its answer is not one list per query.
        """
        self._check_items(name, model)
        tally = Tally(
            self.holdout.targets, self.k, self.popularity, self.vectors, len(model.items), self.holdout.offered
        )
        seconds = 0.0
        for start in range(0, len(self.holdout), self.chunk):
            rows = np.arange(start, min(start + self.chunk, len(self.holdout)))
            queries = self.holdout.queries if len(rows) == len(self.holdout) else self.holdout.queries.take(rows)
            begun = time.perf_counter()
            top = model.recommend(
                queries,
                max(self.k) + 1,
                filter_seen=self.filter_seen,
                exclude_kinds=self.exclude_kinds,
                items=None if self.holdout.offered is None else model.items.lookup(self.holdout.offered),
            )
            seconds += time.perf_counter() - begun
            tally.add(name, rows, top)
        per_query, known = self._per_query(tally)
        entry = self._summarised(Entry(name, per_query=per_query, known_per_query=known), tally.of_all_lists())
        entry = replace(entry, answers=tally.answers(), recommend_seconds=seconds, **_about(model))
        headline = entry.metrics[primary(self.k)]
        log(
            f"{name}: {primary(self.k)} {headline.mean:.4f} [{headline.low:.4f}, {headline.high:.4f}] over "
            f"{headline.n:,} queries, answered in {seconds:.2f} s",
            {primary(self.k): headline.mean or 0.0, "recommend_seconds": seconds},
        )
        return entry

    def over_seeds(self, entries: Sequence[Entry]) -> Entry:
        """One row from those of the same model fitted with different seeds.

        Each query counts with its mean over the seeds, so the interval is still one over queries; the spread over
        seeds (standard deviation of the means, n - 1) stands beside it in ``seed_spread``. Seconds and memory
        are means.

        Raises:
            ConfigError: The entries are not of one model.
        """
        if len({each.name for each in entries}) != 1:
            raise ConfigError(f"Seeds can be joined for one model only, not for {[each.name for each in entries]}.")
        absent = next((each for each in entries if each.why_absent), None)
        if absent is not None or len(entries) == 1:
            return absent or entries[0]
        first, count = entries[0], len(entries)
        means = {name: np.array([each.metrics[name].mean for each in entries], float) for name in first.metrics}
        joined = replace(
            first,
            per_query=_mean_of([each.per_query for each in entries]),
            known_per_query=_mean_of([each.known_per_query for each in entries]),
            answers=_mean_answers([each.answers for each in entries if each.answers]),
            fit_seconds=_mean([each.fit_seconds for each in entries]),
            recommend_seconds=_mean([each.recommend_seconds for each in entries]),
            peak_memory_mb=_mean([each.peak_memory_mb for each in entries]),
            rating_rmse=_mean([each.rating_rmse for each in entries]),
            validation={name: float(np.mean([each.validation[name] for each in entries])) for name in first.validation},
            seed_spread={name: {"sd": float(each.std(ddof=1)), "n": count} for name, each in means.items()},
        )
        whole = {name: float(each.mean()) for name, each in means.items() if name not in first.per_query}
        return self._summarised(joined, whole)

    def protocol(self) -> dict[str, Any]:
        """How was judged, with all denominators, as JSON."""
        targets, unknown, offered = self.holdout.targets, self._unknown(), self.holdout.offered
        known = self._known()
        never_met = int((~known).sum())
        hidden = self._hidden() if self.filter_seen and not self.exclude_kinds else None
        return {
            "holdout": self.holdout.name,
            "ranking": FULL if offered is None else f"the {len(offered):,} items that the split offers",
            "ties": "counted against the model",
            "k": list(self.k),
            "primary_metric": primary(self.k),
            "filter_seen": self.filter_seen,
            "exclude_kinds": list(self.exclude_kinds),
            "queries": len(self.holdout),
            **self.sampling,
            "queries_sampled": len(self.holdout) + self.sampling["queries_without_target"]
            < self.sampling["queries_given"],
            "queries_with_known_target": int((self._known_totals(known) > 0).sum()),
            "targets": len(targets.values) + int(unknown.sum()),
            "targets_outside_vocabulary": int(unknown.sum()),
            "targets_never_met_in_training": never_met if self.popularity is not None else None,
            "targets_hidden_by_seen_filter": hidden,
            "target_items": len(np.unique(targets.values)),
            "diversity_by": None if self.vectors is None else self.vectors.of,
            "interval": f"95 %, bootstrap over queries, {self.samples} resamples",
            "test": "paired sign flips, two-sided, Holm over the pairs",
            "seed": self.seed,
        }

    def about_seen(self) -> str:
        """What of a query's history its list may hold, for people: as judged, whatever the split proposes."""
        if not self.filter_seen:
            return "Items of a query's history may be in its list: repeats count."
        if self.exclude_kinds:
            kinds = ", ".join(self.exclude_kinds)
            return f"Items of a query's history that were met by {kinds} are hidden from its list."
        return "Items of a query's history are hidden from its list."

    def _check_items(self, name: str, model: "Recommender") -> None:
        items = len(model.items)
        most = int(self.holdout.targets.values.max(initial=-1))
        if self.popularity is not None and len(self.popularity) != items:
            raise DataError(
                f"{name} knows {items} items, the training data {len(self.popularity)}; use one vocabulary."
            )
        if most >= items:
            raise DataError(
                f"{name} knows {items} items, but item {most} is a target; split and model must share items."
            )

    def _per_query(self, tally: Tally) -> tuple[dict[str, NDArray[np.float64]], dict[str, NDArray[np.float64]]]:
        """Metrics over all targets with those of the lists, and metrics over known targets; (queries,) each."""
        rank = self.holdout.targets.with_values(tally.rank)
        per_query = measured(rank, _totals(self.holdout), self.k)
        known = self._known()
        known_per_query = {}
        if not known.all() or self._unknown().any():
            known_per_query = measured(rank.where(known), self._known_totals(known), self.k)
        if self.popularity is not None:
            tail = lists.long_tail(self.popularity)[self.holdout.targets.values]
            wanted = rank.where(tail).lengths + self._unknown()
            tally.columns |= {f"long_tail_recall@{k}": recall(rank.where(tail), wanted, k) for k in self.k}
        return {**per_query, **tally.columns}, known_per_query

    def _summarised(self, entry: Entry, of_all_lists: Mapping[str, float]) -> Entry:
        """The entry with means and intervals from its values per query."""
        seed = Run(self.seed).seed_of("evaluation", "bootstrap")
        marked = {f"known {name}": values for name, values in entry.known_per_query.items()}
        found = intervals({**entry.per_query, **marked}, samples=self.samples, seed=seed)
        ranking = [f"{name}@{k}" for k in self.k for name in METRICS]
        whole = {name: Interval(value, None, None, len(self.holdout)) for name, value in of_all_lists.items()}
        return replace(
            entry,
            metrics={name: found[name] for name in entry.per_query} | whole,
            metrics_known_targets={name: found[f"known {name}" if marked else name] for name in ranking},
            slices={
                name: intervals(
                    {metric: entry.per_query[metric][mask] for metric in ranking}, samples=self.samples, seed=seed
                )
                for name, mask in self.holdout.slices.items()
            },
        )

    def _unknown(self) -> NDArray[np.integer]:
        """(queries,) targets outside the vocabulary."""
        unknown = self.holdout.unknown
        return np.zeros(len(self.holdout), np.int64) if unknown is None else unknown

    def _known(self) -> NDArray[np.bool_]:
        """(targets,) whether training met the target; where that is not known, all in the vocabulary count as met."""
        targets = self.holdout.targets.values
        return np.ones(len(targets), bool) if self.popularity is None else self.popularity[targets] > 0

    def _known_totals(self, known: NDArray[np.bool_]) -> NDArray[np.int64]:
        return self.holdout.targets.where(known).lengths

    def _hidden(self) -> int:
        """How many targets stand in the history of their own query, so that a seen filter hides them."""
        history, targets = self.holdout.queries.history, self.holdout.targets
        size = 1 + max(int(history.values.max(initial=0)), int(targets.values.max(initial=0)))
        seen = history.row_of_value() * size + history.values
        return int(np.isin(targets.row_of_value() * size + targets.values, seen).sum())


def _totals(holdout: Holdout) -> NDArray[np.int64]:
    """(queries,) how many targets each has, those outside the vocabulary included."""
    return holdout.targets.lengths + (0 if holdout.unknown is None else holdout.unknown)


def _about(model: "Recommender") -> dict[str, Any]:
    """What a fitted model tells of itself."""
    from foretaste.recommender import Model

    if not isinstance(model, Model):
        return {}
    best = model.training.get("best_score")
    return {
        "settings": model.settings.model_dump(mode="json"),
        "parameters": model.parameters,
        "curve": tuple(model.training.get("curve", ())),
        # Models choose their epoch by NDCG@10, whatever the cut-offs of the evaluation.
        "validation": {} if best is None else {"ndcg@10": float(best)},
    }


def _mean_of(columns: Sequence[Mapping[str, NDArray[np.float64]]]) -> dict[str, NDArray[np.float64]]:
    return {name: np.mean([each[name] for each in columns], axis=0) for name in columns[0]}


def _mean_answers(answers: Sequence[Answers]) -> Answers | None:
    if not answers:
        return None
    return Answers(*(float(np.mean([getattr(each, field.name) for each in answers])) for field in fields(Answers)))


def _mean(values: Sequence[float | None]) -> float | None:
    given = [each for each in values if each is not None]
    return float(np.mean(given)) if given else None
