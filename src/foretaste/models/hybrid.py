"""Several models as one, by their weighted scores or by their ranks."""

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import (
    Field,
    model_validator,
)

from foretaste.dataset import Dataset, Needs
from foretaste.errors import ConfigError
from foretaste.fusion import Normalization, added, comparable, fused
from foretaste.models.parts import Parts, needs_of
from foretaste.query import Holdout, Queries, TopK
from foretaste.recommender import About, Model, Settings
from foretaste.run import Run
from foretaste.scoring import similar
from foretaste.storage import part, prefixed
from foretaste.topk import best as best_of
from foretaste.topk import mask_scores
from foretaste.validation import ndcg_of_lists

__all__ = ["Hybrid", "HybridModel"]

HELD = 2**28  # bytes of scores per part that are held while weights are tried
ASKED = 2000  # queries at most, on which weights are tried
TOGETHER = 64  # queries
STEPS = (0.0, 0.25, 0.5, 2.0, 4.0)  # what a weight is multiplied by
ROUNDS = 3
WEIGHTS = "weights"


class Hybrid(Settings):
    """The weighted sum of the scores of other models, each made comparable within a query.

    All parts are fitted on the same data. The weights are those for which the sum has the best NDCG@10 on validation:
    from equal ones, each in turn is multiplied by 0, 1/4, 1/2, 2 and 4, and what helps is kept, at most three rounds.
    """

    iterative: ClassVar[bool] = True  # validation chooses epochs of parts, and weights
    models: Parts = Field(default={"itemknn": {}, "als": {}}, validate_default=True)
    """Label -> the settings of a part. In a recipe, ``model`` names its model; without that the label does."""
    normalization: Normalization = "min_max"
    """How scores are made comparable: "min_max", "z_score", "rank", or "reciprocal_rank" fusion."""
    weights: dict[str, float] | None = None
    """Label -> weight. None: found on validation; without a validation part all the same."""

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if len(self.models) < 2:
            raise ValueError("a hybrid is of at least two models")
        if self.weights is not None and self.weights.keys() != self.models.keys():
            raise ValueError(f"weights are of {', '.join(self.weights)}; the models are {', '.join(self.models)}")
        told = () if self.weights is None else self.weights.values()
        if told and not (all(0 <= each < math.inf for each in told) and any(told)):
            raise ValueError("weights must be numbers from 0 on, and one must be above 0")
        return self

    @property
    def required(self) -> Needs:
        return needs_of(self.models)

    def _fit(self, train: Dataset, validation: Holdout | None, run: Run) -> "HybridModel":
        parts = {}
        for label, each in self.models.items():
            run.log(f"hybrid: fitting {label}")
            parts[label] = each.fit(train, validation, run.of_part(label))
        model = HybridModel(self, About.of(train), parts, self.weights or dict.fromkeys(parts, 1.0 / len(parts)))
        model.training = {"parts": {label: each.training for label, each in parts.items()}}
        if self.weights is None and validation is not None and len(validation):
            asked = min(len(validation), ASKED, max(1, HELD // (5 * max(1, len(train.items)))))
            model.weights, model.training["best_score"] = _best_weights(model, validation, asked)
            run.log(f"hybrid: weights are those of the best ndcg@10 on {asked:,} of {len(validation):,} queries")
        elif self.weights is None:
            run.log("hybrid: nothing is held out, so all models count the same")
        told = ", ".join(f"{label} {weight:.2f}" for label, weight in model.weights.items())
        run.log(f"hybrid: weights {told}")
        model.training["weights"] = model.weights
        return model

    def restore(self, about: About, state: Mapping[str, NDArray[Any]]) -> "HybridModel":
        parts = {label: each.restore(about, part(state, label)) for label, each in self.models.items()}
        return HybridModel(self, about, parts, dict(zip(parts, state[WEIGHTS].tolist(), strict=True)))

    def memory_needed(self, counts: Mapping[str, int]) -> int:
        fits = [each.memory_needed(counts) for each in self.models.values()]
        return max(fits) + len(fits) * min(HELD, 5 * ASKED * counts["items"]) + 32 * TOGETHER * counts["items"]


class HybridModel(Model):
    """Fitted models, and what each counts."""

    settings: Hybrid

    def __init__(
        self, settings: Hybrid, about: About, parts: Mapping[str, Model], weights: Mapping[str, float]
    ) -> None:
        super().__init__(settings, about)
        self.parts = dict(parts)
        self.weights = dict(weights)

    @property
    def parameters(self) -> int:
        return sum(each.parameters for each in self.parts.values()) + len(self.weights)

    def state(self) -> dict[str, NDArray[Any]]:
        state = {WEIGHTS: np.array([self.weights[label] for label in self.parts])}
        for label, each in self.parts.items():
            state |= prefixed(label, each.state())
        return state

    def answerable(self) -> NDArray[np.bool_]:
        """(items,) those of which any part that counts knows something."""
        return np.asarray(np.any([each.answerable() for each, weight in self._holding_histories() if weight], axis=0))

    def settings_to_refit(self) -> Hybrid:
        models = {label: each.settings_to_refit() for label, each in self.parts.items()}
        return self.settings.model_copy(update={"models": models, "weights": self.weights})

    def similar_items(self, items: Sequence[Any], k: int = 10) -> TopK:
        """By the sum of what the parts say, those left out that know no likeness between items."""
        index, found, weights = self._known(items), [], []
        for label, each in self.parts.items():
            if not self.weights[label]:
                continue
            try:
                answer = each.similar_items(items, len(self.items))
            except ConfigError:
                continue
            row, place = np.nonzero(answer.items >= 0)
            scores = torch.full((len(index), len(self.items)), -torch.inf)
            scores[row, answer.items[row, place]] = torch.from_numpy(answer.scores[row, place])
            found.append(scores)
            weights.append(self.weights[label])
        if not found:
            return super().similar_items(items, k)
        return similar(self, index, fused(found, weights, self.settings.normalization), k, self.answerable())

    def _scores(self, queries: Queries) -> torch.Tensor:
        return self._scorer(queries)(slice(None))

    def _scorer(self, queries: Queries) -> Callable[[slice], torch.Tensor]:
        counting = [(each, weight) for each, weight in self._holding_histories() if weight]
        scorers, weights = [each._scorer(queries) for each, _ in counting], [weight for _, weight in counting]
        return lambda chunk: fused([scores_of(chunk) for scores_of in scorers], weights, self.settings.normalization)

    def comparable_scores(self, queries: Queries) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """Per part: (queries, items) its comparable scores, and whether it knows anything of each item."""
        shape = (len(queries), len(self.items))
        scores, known = [], []
        for each, _ in self._holding_histories():
            scores.append(torch.empty(shape))
            known.append(torch.empty(shape, dtype=torch.bool))
            scores_of = each._scorer(queries)
            # In chunks: what makes scores comparable takes several times their memory.
            for start in range(0, len(queries), TOGETHER):
                chunk = slice(start, min(start + TOGETHER, len(queries)))
                found = scores_of(chunk)
                scores[-1][chunk] = comparable(found, self.settings.normalization)
                known[-1][chunk] = found.isfinite()
        return scores, known

    def _holding_histories(self) -> list[tuple[Model, float]]:
        """The parts, with the users of this model's histories, by which queries number theirs; and their weights."""
        parts = [(copy.copy(each), self.weights[label]) for label, each in self.parts.items()]
        for each, _ in parts:
            each.histories = self.histories
        return parts


def _best_weights(model: HybridModel, validation: Holdout, asked: int) -> tuple[dict[str, float], float]:
    """The weights, which add up to 1, and their NDCG@10 on so many of the validation queries."""
    rows = np.linspace(0, len(validation) - 1, asked).astype(np.int64)
    holdout = validation.take(rows)
    scores, known = model.comparable_scores(holdout.queries)
    hidden = model._hidden(holdout.queries, holdout.filter_seen, holdout.exclude_kinds)
    offered = None if holdout.offered is None else np.isin(np.arange(len(model.items)), holdout.offered)

    def score(weights: Sequence[float]) -> float:
        total = added(scores, known, weights)
        mask_scores(total, hidden, offered)
        return ndcg_of_lists(*best_of(total, 11), holdout)

    best = list(model.weights.values())
    best_score = score(best)
    for _ in range(ROUNDS):
        before = best_score
        for place in range(len(best)):
            for step in STEPS:
                tried = [weight * step if at == place else weight for at, weight in enumerate(best)]
                if sum(tried) <= 0:
                    continue
                tried = [weight / sum(tried) for weight in tried]
                found = score(tried)
                if found > best_score:
                    best, best_score = tried, found
        if best_score == before:
            break
    return dict(zip(model.parts, best, strict=True)), best_score
