"""Several models as one, by their weighted scores or by their ranks."""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import (
    BeforeValidator,
    Field,
    SerializationInfo,
    SerializeAsAny,
    ValidationError,
    field_serializer,
    model_validator,
)

from foretaste.dataset import Dataset, Needs
from foretaste.errors import ConfigError
from foretaste.fusion import Normalization, comparable, fused
from foretaste.query import Holdout, Queries, TopK
from foretaste.recommender import About, Model, Settings
from foretaste.run import Run
from foretaste.scoring import similar
from foretaste.storage import part, prefixed
from foretaste.validation import ndcg_at_10

__all__ = ["Hybrid", "HybridModel"]

HELD = 2**28  # bytes of scores per part that are held while weights are tried
ASKED = 2000  # queries at most, on which weights are tried
STEPS = (0.0, 0.25, 0.5, 2.0, 4.0)  # what a weight is multiplied by
ROUNDS = 3
WEIGHTS = "weights"


def _settings_of_parts(given: Any) -> Any:
    """Settings from what a recipe says of each part: those of the model that ``model``, or else the label, names."""
    from foretaste.models import model_settings

    if not isinstance(given, Mapping):
        return given
    found = {}
    for label, told in given.items():
        if isinstance(told, Settings) or not isinstance(told, Mapping | None):
            found[label] = told
            continue
        content = dict(told or {})
        schema = model_settings(str(content.pop("model", label)))
        try:
            found[label] = schema(**content)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(str(step) for step in (label, *first["loc"]))
            raise ValueError(f"{place}: {first['msg'].removeprefix('Value error, ')}") from error
    return found


class Hybrid(Settings):
    """The weighted sum of the scores of other models, each made comparable within a query.

    All parts are fitted on the same data. The weights are those for which the sum has the best NDCG@10 on validation:
    from equal ones, each in turn is multiplied by 0, 1/4, 1/2, 2 and 4, and what helps is kept, at most three rounds.
    """

    iterative: ClassVar[bool] = True  # validation chooses epochs of parts, and weights
    models: Annotated[dict[str, SerializeAsAny[Settings]], BeforeValidator(_settings_of_parts)] = Field(
        default={"itemknn": {}, "als": {}}, validate_default=True
    )
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
        if self.weights is not None and (min(self.weights.values()) < 0 or not any(self.weights.values())):
            raise ValueError("weights must not be negative, and one must be above 0")
        return self

    @field_serializer("models")
    def _told(self, models: dict[str, Settings], info: SerializationInfo) -> dict[str, Any]:
        return {
            label: {
                "model": each.called(),
                **each.model_dump(mode=info.mode, exclude_defaults=info.exclude_defaults),
            }
            for label, each in models.items()
        }

    @property
    def required(self) -> Needs:
        needed = self.needs
        for each in self.models.values():
            needed |= each.required
        return needed

    def _fit(self, train: Dataset, validation: Holdout | None, run: Run) -> "HybridModel":
        parts = {}
        for label, each in self.models.items():
            run.log(f"hybrid: fitting {label}")
            folder = None if run.checkpoints is None else run.checkpoints.with_name(f"{run.checkpoints.name}-{label}")
            parts[label] = each.fit(train, validation, replace(run, checkpoints=folder))
        model = HybridModel(self, About.of(train), parts, self.weights or dict.fromkeys(parts, 1.0 / len(parts)))
        model.training = {"parts": {label: each.training for label, each in parts.items()}}
        if self.weights is None and validation is not None and len(validation):
            model.weights, model.training["best_score"] = _best_weights(model, validation)
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
        return max(fits) + len(fits) * min(HELD, 4 * ASKED * counts["items"])


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
        """(items,) those of which any part knows something."""
        return np.asarray(np.any([each.answerable() for each in self.parts.values()], axis=0))

    def settings_to_refit(self) -> Hybrid:
        models = {label: each.settings_to_refit() for label, each in self.parts.items()}
        return self.settings.model_copy(update={"models": models, "weights": self.weights})

    def similar_items(self, items: Sequence[Any], k: int = 10) -> TopK:
        """By the sum of what the parts say, those left out that know no likeness between items."""
        index, found, weights = self._known(items), [], []
        for label, each in self.parts.items():
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
        scorers = [each._scorer(queries) for each in self._holding_histories()]
        weights = [self.weights[label] for label in self.parts]
        return lambda chunk: fused([scores_of(chunk) for scores_of in scorers], weights, self.settings.normalization)

    def _holding_histories(self) -> list[Model]:
        """The parts, with the users of this model's histories, by which queries number theirs."""
        parts = [copy.copy(each) for each in self.parts.values()]
        for each in parts:
            each.histories = self.histories
        return parts


class _Weighed(Model):
    """Comparable scores of fixed queries, added up with weights that can be changed."""

    def __init__(self, of: HybridModel, queries: Queries) -> None:
        super().__init__(of.settings, of.about)
        scores = [each._scores(queries) for each in of._holding_histories()]
        self._unknown = ~torch.stack([each.isfinite() for each in scores]).any(0)
        self._scored = [comparable(each, of.settings.normalization) for each in scores]
        self.weights = list(of.weights.values())

    def state(self) -> dict[str, NDArray[Any]]:
        return {}

    def _scores(self, queries: Queries) -> torch.Tensor:
        raise NotImplementedError  # only the fixed queries have scores

    def _scorer(self, queries: Queries) -> Callable[[slice], torch.Tensor]:
        def scores(chunk: slice) -> torch.Tensor:
            parts = (weight * each[chunk] for weight, each in zip(self.weights, self._scored, strict=True))
            return sum(parts, torch.zeros(())).masked_fill(self._unknown[chunk], -torch.inf)

        return scores


def _best_weights(model: HybridModel, validation: Holdout) -> tuple[dict[str, float], float]:
    """The weights, which add up to 1, and their NDCG@10 on (some of) the validation queries."""
    most = max(1, min(ASKED, HELD // (4 * max(1, len(model.items)))))
    rows = np.linspace(0, len(validation) - 1, min(most, len(validation))).astype(np.int64)
    holdout = validation.take(rows)
    weighed = _Weighed(model, holdout.queries)

    def score(weights: Sequence[float]) -> float:
        weighed.weights = list(weights)
        return ndcg_at_10(weighed, holdout)

    best = list(weighed.weights)
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
