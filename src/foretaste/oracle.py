"""The truth of a simulated shop on the leaderboard, beside the models."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from foretaste.dataset import Dataset
from foretaste.errors import BundleError, ConfigError
from foretaste.query import Queries
from foretaste.recommender import About, Model, Settings
from foretaste.run import Run
from foretaste.simulate import World

if TYPE_CHECKING:
    import torch

__all__ = ["OracleModel"]


class OracleModel(Model):
    """The truth of a simulated shop, asked like a model: how far each model is from the best possible."""

    class Truth(Settings):
        """The oracle has nothing to set and learns nothing."""

        def _fit(self, train: Dataset, validation: Any, run: Run) -> "Model":
            raise ConfigError("The oracle is not fitted; it is the truth of a simulated shop.")

        def restore(self, about: About, state: Mapping[str, Any]) -> "Model":
            raise BundleError("The oracle is not kept in bundles.")

    def __init__(self, world: World, train: Dataset, next_is: Literal["event", "view"]) -> None:
        super().__init__(OracleModel.Truth(), About.of(train))
        self._oracle = world.oracle(next=next_is)

    @property
    def name(self) -> str:
        return "oracle"

    @property
    def parameters(self) -> int:
        return 0

    def state(self) -> dict[str, Any]:
        return {}

    def _scores(self, queries: Queries) -> "torch.Tensor":
        import torch

        return torch.from_numpy(self._oracle.scores(queries))
