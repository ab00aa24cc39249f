"""What a model of vectors that learned further tasks can be asked of them: ratings, likes, categories."""

from abc import abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from foretaste.errors import ConfigError
from foretaste.nets.tasks import TaskHeads, average_precision, item_names
from foretaste.query import Queries
from foretaste.ragged import Ragged
from foretaste.run import Run
from foretaste.scoring import VectorModel
from foretaste.train import device_of

__all__ = ["TaskAnswers"]

PAIRS = 8192  # of queries and items at a time
LOGITS = 1 << 24  # of items and names at a time


class TaskAnswers(VectorModel):
    """A model of vectors of length 1, with a head for each task that it learned."""

    _run: Run

    @property
    @abstractmethod
    def tasks(self) -> TaskHeads | None:
        """None: nothing beside the finding of items was learned."""

    @abstractmethod
    def _answering(self) -> AbstractContextManager[None]:
        """Within the block the network answers, where it is to compute."""

    @property
    def predicts_ratings(self) -> bool:
        return self.tasks is not None and self.tasks.rating is not None

    def pair_ratings(self, queries: Queries, items: Ragged) -> NDArray[np.float32]:
        """(total,) what each query would value each of its own items at, in the units of the data.

        Where nothing is known of a person it is what is known of the item.

        Args:
            items: (queries) item indices.

        Raises:
            ConfigError: The model learned no ratings.
        """
        if self.tasks is None or self.tasks.rating is None:
            raise ConfigError(f"This {self.name} predicts no ratings: tasks.rating was 0.")
        return self.tasks.in_units(self._of_pairs(self.tasks.rating, queries, items)).numpy()

    def pair_likes(self, queries: Queries, items: Ragged) -> NDArray[np.float32]:
        """(total,) how likely each query values each of its own items above the mean of all; as ``pair_ratings``.

        Raises:
            ConfigError: The model learned no likes.
        """
        if self.tasks is None or self.tasks.sentiment is None:
            raise ConfigError(f"This {self.name} predicts no likes: tasks.sentiment was 0.")
        return self._of_pairs(self.tasks.sentiment, queries, items).sigmoid().numpy()

    def item_categories(self, items: Sequence[Any]) -> list[dict[str, float]]:
        """For each item the names that it could have, and how likely it has each, by its vector.

        Raises:
            ConfigError: The model learned no categories.
            UnknownName: An item is not in the catalogue.
        """
        if self.tasks is None or self.tasks.category is None:
            raise ConfigError(f"This {self.name} knows no categories: tasks.category was 0.")
        names = item_names(self.about.catalog, self.about.met)[1]
        chances = self._category_logits(self._known(items)).sigmoid()
        return [dict(zip(names, row, strict=True)) for row in chances.tolist()]

    def tasks_measured(self) -> dict[str, float]:
        """How well tasks are done that can be judged by the catalogue: on items never met, where there are any."""
        tasks = self.tasks
        if tasks is None or tasks.category is None:
            return {}
        named, met = tasks.named.cpu().numpy(), self.about.met
        fresh = self.answerable() & ~met & named
        rows, of = (fresh, "items never met") if fresh.any() else (met & named, "items of training")
        judged = np.flatnonzero(rows)
        few = np.array_split(judged, -(-len(judged) * tasks.names // LOGITS))
        found = [average_precision(self._category_logits(each).numpy(), self._has(each)) for each in few]
        mean = float(np.average(found, weights=[len(each) for each in few]))
        return {f"category average precision of {of}": mean}

    def _has(self, items: NDArray[np.integer]) -> NDArray[np.bool_]:
        """(items, names) which names some items have."""
        index = torch.from_numpy(items.astype(np.int64)).to(device_of(self._run))
        return np.asarray(self.tasks.has(index).cpu().numpy())  # type: ignore[union-attr]

    def _category_logits(self, items: NDArray[np.integer]) -> Tensor:
        with self._answering():
            vectors = torch.from_numpy(self.likeness_vectors()[items]).to(device_of(self._run))
            return torch.as_tensor(self.tasks.category(vectors).cpu())  # type: ignore[union-attr, misc]

    def _of_pairs(self, head: nn.Module, queries: Queries, items: Ragged) -> Tensor:
        """(total,) what a head makes of each query and each of its own items."""
        vectors = self.likeness_vectors()
        people = np.nan_to_num(self.query_vectors(queries)[:, : vectors.shape[1]])
        device, row, found = device_of(self._run), items.row_of_value(), []
        with self._answering():
            for start in range(0, len(row), PAIRS):
                pairs = slice(start, start + PAIRS)
                index = items.values[pairs].astype(np.int64)
                arrays = (people[row[pairs]], vectors[index], index)
                found.append(head(*(torch.from_numpy(each).to(device) for each in arrays)).cpu())
        return torch.cat([*found, torch.empty(0)])
