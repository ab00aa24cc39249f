"""What the models share that learn in epochs: a plan, an epoch chosen by validation, a fit through ``train``."""

from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar, Self

from torch import Tensor, nn

from foretaste.dataset import Dataset
from foretaste.query import Holdout
from foretaste.recommender import Model, Settings
from foretaste.run import Run
from foretaste.train import AnyBatch, TrainPlan, identity_of, train
from foretaste.validation import validation_score

__all__ = ["IterativeSettings"]


class IterativeSettings(Settings):
    """The settings of a model that is a network, optimised by ``plan``."""

    iterative: ClassVar[bool] = True
    by_vectors: ClassVar[bool] = True
    lighter: ClassVar[str] = "batch_size or dim"  # what a step takes less memory with
    plan: TrainPlan = TrainPlan()

    def for_epochs(self, epochs: int) -> Self:
        return self.model_copy(update={"plan": self.plan.model_copy(update={"epochs": epochs, "patience": None})})

    def learn(
        self,
        model: Model,
        net: nn.Module,
        batches: Callable[[int], Sequence[AnyBatch]],
        losses: Callable[[AnyBatch], Mapping[str, Tensor]],
        data: Dataset,
        validation: Holdout | None,
        run: Run,
        *,
        calibrate: Callable[[], None] = lambda: None,
    ) -> None:
        """Train the network of a model in place, and note how it went in ``model.training``.

        Args:
            batches: The batches of an epoch, counted from 0.
            losses: From a batch to named scalars.
            data: What is learned from: a checkpoint of other data is not resumed.
            calibrate: Works out what answers need beside the weights; called whenever they have changed and are asked.
        """
        log = train(
            net,
            batches,
            losses,
            self.plan,
            run,
            validate=validation_score(model, validation, prepare=calibrate),
            name=self.called(),
            identity=identity_of(self, data.fingerprint, run),
            lighter=self.lighter,
        )
        calibrate()
        model.training = log.to_json()
