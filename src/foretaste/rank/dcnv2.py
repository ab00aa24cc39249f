"""DCN-v2 as a ranker of several tasks: from what is known of a shown item to the chance that each thing comes of it.

Source: Wang et al., "DCN V2: Improved Deep & Cross Network and Practical Lessons for Web-scale Learning to Rank
Systems", WWW 2021. Deviations: norms, skips and stochastic depth, each a setting; several tasks; groups of features may
have a block of their own before they are crossed.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)
from torch import Tensor

from foretaste.catalog import Table
from foretaste.errors import DataError, UnknownName
from foretaste.nets.attention import check_heads
from foretaste.nets.deep import Activation, LayerNorming
from foretaste.rank.examples import UNKNOWN, Examples
from foretaste.rank.features import Feature, groups_of
from foretaste.rank.fields import Fields
from foretaste.rank.inputs import Inputs, RankBatch, RankBatches, TableInputs
from foretaste.rank.metrics import auc, grouped_auc, list_ndcg, log_loss
from foretaste.rank.net import Mixing, RankNet
from foretaste.rank.tasks import Task, TaskLosses, tasks_of
from foretaste.run import Run
from foretaste.train import TrainPlan, device_of, identity_of, train

__all__ = ["DCNv2", "DCNv2Model", "Judged"]

Judged = Literal["auc", "grouped_auc", "ndcg", "log_loss"]
ANSWERED_TOGETHER = 8192  # examples


def _features(given: Any) -> Any:
    """Groups in which a feature may be told by the name of its column alone."""
    if not isinstance(given, Mapping):
        return given
    return {
        group: tuple({"column": each} if isinstance(each, str) else each for each in features)
        for group, features in given.items()
    }


class DCNv2(BaseModel):
    """The settings of the ranker; ``fit`` returns the fitted one."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    groups: Annotated[dict[str, tuple[Feature, ...]], BeforeValidator(_features)] | None = None
    """Group -> its features; a name alone is a column that is read as its table has it. None: all columns."""
    tasks: dict[str, Task] | None = None
    """Label -> how it counts. None: all labels; click, purchase and add to cart weigh .4, .4 and .2."""
    weighting: Literal["fixed", "uncertainty"] = "fixed"
    """The weights of losses as told, or learned."""
    entire_space: tuple[str, ...] = ()
    """Tasks of which each can only come where the one before did, such as click, cart, purchase."""
    dim: PositiveInt = 16
    """The width of the vector of each feature."""
    vector_std: PositiveFloat = 0.05
    forgetting: float = Field(default=0.01, ge=0, lt=1)
    """While training, how often a name is taken for unknown."""
    group_dim: PositiveInt | None = None
    """The width that the block of each group ends in. None: features are crossed as they are, without blocks."""
    input_norm: LayerNorming = "none"
    """Of all features together, before they are crossed."""
    structure: Literal["parallel", "stacked"] = "parallel"
    """Cross and deep layers side by side, or the deep on the cross layers."""
    cross_layers: NonNegativeInt = 3
    rank: PositiveInt | None = 32
    """Of the matrices of cross layers. None: full."""
    cross_experts: PositiveInt = 1
    """How many low-rank experts each cross layer mixes."""
    cross_norm: bool = True
    drop_path: float = Field(default=0.0, ge=0, lt=1)
    """How often the last cross layer is left out for a row while training; earlier ones less."""
    hidden: tuple[PositiveInt, ...] = (256, 128, 64)
    """The widths of the deep layers. Without any there are only the cross layers."""
    dropout: float = Field(default=0.1, ge=0, lt=1)
    norm: LayerNorming = "layer"
    activation: Activation = "gelu"
    skips: bool = True
    """Add to each deep layer's output what went into it."""
    sharing: Literal["shared", "mmoe", "ple"] = "shared"
    """What tasks share: all below their heads, or experts that each mixes its own way, or those and some of its own."""
    experts: PositiveInt = 4
    own_experts: PositiveInt = 2
    expert_layers: PositiveInt = 1
    expert_dim: PositiveInt = 64
    head_hidden: tuple[PositiveInt, ...] = (64, 32)
    head_dropout: float = Field(default=0.1, ge=0, lt=1)
    sequence_layers: PositiveInt = 1
    heads: PositiveInt = 2
    """Of the attention over sequences."""
    mixup: NonNegativeFloat = 0.0
    """The alpha of manifold mixup, such as .2. 0: nothing is mixed."""
    list_weight: NonNegativeFloat = 0.0
    """Of a loss of whole lists beside that of each example: how well what came is chosen among what was shown."""
    vector_l2: NonNegativeFloat = 0.0
    """Half of this times the sum of squares of the vectors of names is added to the loss."""
    layer_rate: float = Field(default=1.0, gt=0, le=1)
    """Each stage learns at this share of the rate of the one above it; the heads at the whole rate."""
    batch_size: Annotated[int, Field(ge=2)] | None = None
    """Examples per step. None: a hundredth of an epoch, at least 128 and at most 4,096."""
    judged_by: Judged = "auc"
    """What chooses the best epoch on the validation part: the mean over tasks, by their weights."""
    plan: TrainPlan = TrainPlan(epochs=30, lr=1e-3, weight_decay=0.01, betas=(0.9, 0.999), patience=3)

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        check_heads(self.dim, self.heads)
        if not self.cross_layers and not self.hidden:
            raise ValueError("without cross_layers and hidden there is nothing to learn with")
        if self.cross_experts > 1 and self.rank is None:
            raise ValueError("cross_experts mixes layers of a low rank; set rank, too")
        if self.tasks is not None and not any(task.weight for task in self.tasks.values()):
            raise ValueError("a task needs a weight above 0")
        if self.list_weight and self.mixup:
            raise ValueError("mixup mixes examples of different lists; leave it out, or list_weight")
        unknown = [name for name in self.entire_space if self.tasks is not None and name not in self.tasks]
        if unknown or len(set(self.entire_space)) < len(self.entire_space):
            raise ValueError(f"entire_space names tasks, each once; it is {', '.join(self.entire_space)}")
        return self

    @classmethod
    def called(cls) -> str:
        return cls.__name__.lower()

    def for_epochs(self, epochs: int) -> Self:
        """The same settings with a fixed number of epochs, to fit on all examples."""
        return self.model_copy(update={"plan": self.plan.model_copy(update={"epochs": epochs, "patience": None})})

    def fit(self, examples: Examples, validation: Examples | None = None, run: Run | None = None) -> "DCNv2Model":
        """Learn from examples.

        Args:
            validation: Where given, the best epoch is chosen by it, and training stops early.

        Raises:
            MissingData: A column or a label that is declared is not there.
            DataError: There are no examples, or nothing is known of any label, or all of a task is the same.
        """
        run = run or Run()
        if len(examples) < 2:
            raise DataError(
                f"There are {len(examples)} examples to fit {type(self).__name__} on; it takes two or more."
            )
        tasks = self._tasks(examples, run)
        if validation is not None and not self._can_be_judged(validation, tasks):
            run.log(f"{self.judged_by} can be had of no task of the validation part; epochs are judged by log loss")
            return self.model_copy(update={"judged_by": "log_loss"}).fit(examples, validation, run)
        fields = Fields.of(examples, groups_of(examples) if self.groups is None else self.groups, run.log)
        torch.manual_seed(run.seed_of(self.called(), "weights"))
        model = DCNv2Model(self, fields, tasks, run)
        inputs = Inputs(fields, examples, list(tasks), log=run.log)
        losses = _Losses(self, model.net, model.losses)
        size = self.batch_size or int(np.clip(len(examples) // 100, 128, 4096))
        judge = None
        if validation is not None:
            held_out = model.inputs(validation)
            judge = lambda: model.judged(validation, model.chances(held_out))  # noqa: E731
        log = train(
            model._whole(),
            lambda epoch: RankBatches(inputs, size, run.rng(self.called(), "batches", epoch), self.list_weight > 0),
            losses,
            self.plan,
            run,
            validate=judge,
            name=self.called(),
            identity=identity_of(self, examples.fingerprint(), run),
            lighter="batch_size or dim",
        )
        model.training = log.to_json()
        return model

    def _can_be_judged(self, validation: Examples, tasks: Mapping[str, Task]) -> bool:
        """Whether any task of a validation part has what is needed to judge by; log loss needs no more than labels."""
        if self.judged_by == "log_loss":
            return True
        found = []
        for task in tasks:
            label = validation.labels.get(task, np.full(len(validation), UNKNOWN))
            known = label != UNKNOWN
            same = np.zeros(int(known.sum()), np.float32)
            found.append(
                _judged(self.judged_by, validation.request[known], label[known], same) if len(same) else math.nan
            )
        return not np.isnan(found).all()

    def _tasks(self, examples: Examples, run: Run) -> dict[str, Task]:
        """The tasks to learn, of which something is known."""
        tasks = tasks_of(list(examples.labels)) if self.tasks is None else dict(self.tasks)
        if not tasks:
            raise DataError("The examples have no labels; a ranker learns from 0 and 1 per task.")
        for name in (*tasks, *self.entire_space):
            if name not in examples.labels:
                raise UnknownName("label", name, examples.labels)
        for name in tasks:
            label = examples.labels[name]
            positives, known = int((label == 1).sum()), int((label != UNKNOWN).sum())
            if positives in (0, known):
                run.log(
                    f"{name}: all {known:,} labels that are known are {0 if positives == 0 else 1}; nothing can be "
                    "learned of it but that"
                )
        if not any((label != UNKNOWN).any() for name, label in examples.labels.items() if name in tasks):
            raise DataError(f"No label of {', '.join(tasks)} is known in any of {len(examples):,} examples.")
        return tasks


class DCNv2Model:
    """The fitted ranker."""

    def __init__(self, settings: DCNv2, fields: Fields, tasks: Mapping[str, Task], run: Run) -> None:
        self.settings, self.fields, self.tasks, self._run = settings, fields, dict(tasks), run
        self.net = RankNet(settings, fields, list(tasks))
        self.losses = TaskLosses(tasks, settings.entire_space, settings.weighting == "uncertainty")
        self._told: set[str] = set()
        self._items: tuple[Table, TableInputs] | None = None
        self.training: dict[str, Any] = {}  # learning curve and best epoch
        self.metrics: dict[str, Any] = {}  # measured quality, where it was measured

    @property
    def name(self) -> str:
        return self.settings.called()

    @property
    def parameters(self) -> int:
        """How many numbers were learned."""
        return sum(each.numel() for each in self.net.parameters())

    def predict(self, examples: Examples) -> dict[str, NDArray[np.float32]]:
        """Task -> (examples,) the chance that it comes.

        Columns that these examples lack count as unknown, and are named in the log.
        """
        found = self.chances(self.inputs(examples))
        return {task: found[:, place].copy() for place, task in enumerate(self.tasks)}

    def inputs(self, examples: Examples) -> Inputs:
        """Examples as they are read when scores are asked."""
        told = ", ".join(self.fields.lacking(examples))
        if told and told not in self._told:  # once, however often it is asked
            self._told.add(told)
            self._run.log(f"columns that are not there count as unknown: {told}")
        # Thousands of queries share one table of items, which is read once.
        if self._items is None or self._items[0] is not examples.items:
            read = TableInputs.of(self.fields, "items", examples.items, answering=True, log=self._run.log)
            self._items = (examples.items, read)
        return Inputs(self.fields, examples, [], answering=True, items=self._items[1], log=self._run.log)

    def chances(self, inputs: Inputs) -> NDArray[np.float32]:
        """(examples, tasks) the chance that each comes."""
        device = device_of(self._run)
        if next(self.net.parameters()).device != device:
            self._whole().to(device)
        if self.net.training:  # it takes longer to say so than to compute the chances of a list
            self.net.eval()
        parts = [np.empty((0, len(self.tasks)), np.float32)]
        with torch.no_grad():
            for start in range(0, len(inputs), ANSWERED_TOGETHER):
                rows = torch.arange(start, min(start + ANSWERED_TOGETHER, len(inputs)))
                parts.append(self.losses.chances(self.net(inputs.batch(rows).to(device))).float().cpu().numpy())
        return np.concatenate(parts)

    def judged(self, examples: Examples, chances: NDArray[np.floating]) -> float:
        """The mean over tasks, by their weights, of what ``judged_by`` names; higher is better.

        Args:
            chances: (examples, tasks) of these examples.

        Raises:
            DataError: It can be had of no task.
        """
        scores, weights = [], []
        for task, told in zip(self.tasks, chances.T, strict=True):
            label = examples.labels.get(task, np.full(len(examples), UNKNOWN))
            known = label != UNKNOWN
            score = _judged(self.settings.judged_by, examples.request[known], label[known], told[known])
            if not math.isnan(score):
                scores.append(score)
                weights.append(self.tasks[task].weight)
        if not scores:
            raise DataError(
                f"{self.settings.judged_by} can be had of no task of the validation part: none has both labels there."
            )
        return float(np.average(scores, weights=weights if any(weights) else None))

    def state(self) -> dict[str, NDArray[Any]]:
        """The arrays that, with the settings, the tasks and the fields, are the model."""
        return {name: tensor.detach().cpu().numpy() for name, tensor in self._whole().state_dict().items()}

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        """Take the weights that ``state`` gave."""
        self._whole().load_state_dict(dict(tensors))

    def save(self, folder: Path | str) -> None:
        """Write the ranker as a bundle: JSON and safetensors, with checksums."""
        from foretaste.rank.saved import save_ranker

        save_ranker(self, folder)

    def _whole(self) -> torch.nn.ModuleList:
        return torch.nn.ModuleList([self.net, self.losses])


class _Losses:
    """The named losses of a batch; mixes rows where that is wanted. ``train`` has seeded torch's draws."""

    def __init__(self, settings: DCNv2, net: RankNet, losses: TaskLosses) -> None:
        self._settings, self._net, self._losses = settings, net, losses

    def __call__(self, batch: RankBatch) -> dict[str, Tensor]:
        mixing = self._mixing(len(batch), batch.labels.device)
        log_odds = self._net(batch, mixing)
        if mixing is None:
            found: dict[str, Tensor] = self._losses(self._losses.of_each(log_odds, batch.labels), batch.labels)
        else:
            own, other = batch.labels, batch.labels[mixing.order]
            sides = (self._losses(self._losses.of_each(log_odds, each), each) for each in (own, other))
            shares = (mixing.share, 1 - mixing.share)
            weighted = [
                {task: share * loss for task, loss in side.items()} for share, side in zip(shares, sides, strict=True)
            ]
            found = {task: weighted[0][task] + weighted[1][task] for task in weighted[0]}
        if self._settings.list_weight:
            lists = torch.unique_consecutive(batch.lists, return_inverse=True)[1]
            chosen = self._losses.of_lists(log_odds.float(), batch.labels, lists)
            for task, missed in zip(self._losses.tasks, chosen, strict=True):
                found[f"{task} of lists"] = self._settings.list_weight * self._losses.tasks[task].weight * missed
        if self._settings.vector_l2 and (tables := self._net.vectors.tables()):
            squares = torch.stack([each.float().square().sum() for each in tables])
            found["l2"] = self._settings.vector_l2 / 2 * squares.sum()
        return found

    def _mixing(self, rows: int, device: torch.device) -> Mixing | None:
        alpha = self._settings.mixup
        if not alpha:
            return None
        share = float(torch.distributions.Beta(alpha, alpha).sample())
        return Mixing(torch.randperm(rows, device=device), share, int(torch.randint(2, (1,))))


def _judged(
    by: Judged, lists: NDArray[np.integer], labels: NDArray[np.integer], chances: NDArray[np.floating]
) -> float:
    match by:
        case "auc":
            return auc(labels, chances)
        case "grouped_auc":
            return grouped_auc(lists, labels, chances)
        case "ndcg":
            return list_ndcg(lists, labels, chances)
        case "log_loss":
            return -log_loss(labels, chances)
