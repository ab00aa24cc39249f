"""Further tasks for vectors of people and items: ratings, likes, categories, likeness of content."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, NonNegativeFloat
from torch import Tensor, nn

from foretaste.catalog import Categories, Category, Table
from foretaste.item_features import ItemFeatures

__all__ = ["TaskHeads", "Tasks", "average_precision", "item_names"]


class Tasks(BaseModel):
    """How much each task counts beside the finding of items; 0: it is not learned."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rating: NonNegativeFloat = 0.0
    """What somebody values an item at; the mean squared error in units of the variance. Needs values."""
    sentiment: NonNegativeFloat = 0.0
    """Whether they like it: is the value above the mean of all? Binary cross-entropy. Needs values."""
    category: NonNegativeFloat = 0.0
    """Which names an item has, such as genres; binary cross-entropy over all names. Needs item features."""
    content: NonNegativeFloat = 0.0
    """How alike two items are by their names: the squared error of the cosine of their vectors, against the cosine of
    their names. Needs item features."""

    @property
    def any(self) -> bool:
        return self.of_values or self.of_names

    @property
    def of_values(self) -> bool:
        return bool(self.rating or self.sentiment)

    @property
    def of_names(self) -> bool:
        return bool(self.category or self.content)


class TaskHeads(nn.Module):
    """A head for each task over the vectors of people and items, which are of length 1.

    Of a person p and an item i the rating is  mean + deviation * (<A p + a, (i, 1)> + b_i)  and the logit of a like
    likewise, with weights of its own; the logits of the names of an item are a matrix times its vector. So a task that
    is learned pulls at the vectors by which items are found.

    Source: tasks that share what they stand on are those of Caruana, "Multitask Learning", Machine Learning 28, 1997;
        the form of the rating is that of biased factorisation (Koren, Bell, Volinsky, Computer 42, 2009, eq. 4) with
        the person's bias read off their vector, so that strangers have one too.
    """

    scale: Tensor  # (4,) mean, deviation, lowest and highest of the values of training
    has: Tensor  # (items, names) bool

    def __init__(self, dim: int, tasks: Tasks, has: NDArray[np.bool_]) -> None:
        """Args: has, (items, names) which names each item has; one of which nothing is known teaches nothing."""
        super().__init__()
        self.tasks = tasks
        self.register_buffer("scale", torch.tensor([0.0, 1.0, 0.0, 0.0]))
        self.register_buffer("has", torch.from_numpy(has), persistent=False)
        self.rating = _Pairs(dim, len(has)) if tasks.rating else None
        self.sentiment = _Pairs(dim, len(has)) if tasks.sentiment else None
        self.category = nn.Linear(dim, has.shape[1]) if tasks.category else None

    def measure(self, values: NDArray[np.floating]) -> None:
        """Take mean, deviation and range from the values (events,) of training, NaN where not given."""
        given = values[np.isfinite(values)].astype(np.float64)
        if len(given):
            ends = [given.mean(), given.std() or 1.0, given.min(), given.max()]
            self.scale.copy_(torch.tensor(ends, dtype=torch.float32))

    def losses(self, people: Tensor, items: Tensor, index: Tensor, values: Tensor) -> dict[str, Tensor]:
        """The losses of some pairs by the names of their tasks, each times its weight.

        Args:
            people: (pairs, dim).
            items: (pairs, dim).
            index: (pairs,) of the items.
            values: (pairs,) NaN = not given.
        """
        found, given = {}, values.isfinite()
        measured = torch.where(given, (values - self.scale[0]) / self.scale[1], 0.0)
        if self.rating is not None:
            squares = (self.rating(people, items, index) - measured).square() * given
            found["rating"] = self.tasks.rating * squares.sum() / given.sum().clamp(min=1)
        if self.sentiment is not None:
            logits, liked = self.sentiment(people, items, index), (measured > 0).float()
            entropy = nn.functional.binary_cross_entropy_with_logits(logits, liked, reduction="none") * given
            found["sentiment"] = self.tasks.sentiment * entropy.sum() / given.sum().clamp(min=1)
        if self.category is not None:
            logits = self.category(items.to(self.category.weight.dtype)).float()
            truth, named = self.has[index].float(), self.has[index].any(1)
            entropy = nn.functional.binary_cross_entropy_with_logits(logits, truth, reduction="none").mean(1) * named
            found["category"] = self.tasks.category * entropy.sum() / named.sum().clamp(min=1)
        if self.tasks.content:
            other = torch.randperm(len(index), device=index.device)
            first, second = self.has[index], self.has[index[other]]
            counted = (index != index[other]) & first.any(1) & second.any(1)
            alike = _cosine(first.float(), second.float())
            apart = (_cosine(items.float(), items[other].float()) - alike).square() * counted
            found["content"] = self.tasks.content * apart.sum() / counted.sum().clamp(min=1)
        return found

    def in_units(self, guessed: Tensor) -> Tensor:
        """Ratings in deviations, in the units of the data and within the range of training."""
        mean, deviation, lowest, highest = self.scale
        return torch.as_tensor((mean + deviation * guessed).clamp(lowest, highest))


class _Pairs(nn.Module):
    """(pairs,) a number for each pair of a person and an item."""

    def __init__(self, dim: int, items: int) -> None:
        super().__init__()
        self.people = nn.Linear(dim, dim + 1)
        self.item_bias = nn.Parameter(torch.zeros(items))

    def forward(self, people: Tensor, items: Tensor, index: Tensor) -> Tensor:
        read = self.people(people.to(self.people.weight.dtype)).float()
        bias = nn.functional.embedding(index, self.item_bias.unsqueeze(1)).squeeze(1)
        return torch.as_tensor((read[:, :-1] * items.float()).sum(1) + read[:, -1] + bias)


def item_names(table: Table, met: NDArray[np.bool_]) -> tuple[NDArray[np.bool_], Sequence[str]]:
    """(items, names) which names, such as genres, each item has of those that items met in training have; and these."""
    kept = {name: each for name, each in table.columns.items() if isinstance(each, Category | Categories)}
    named = Table(len(table), kept)
    features = ItemFeatures.of(named.take(met))
    codes, has = features.codes(named), np.zeros((len(table), len(features.meanings)), bool)
    has[codes.row_of_value(), codes.values] = True
    return has, features.meanings


def average_precision(scores: NDArray[np.floating], has: NDArray[np.bool_]) -> float:
    """The mean over rows with any name of how far up their names stand: 1 where they come first. Ties count against."""
    rows = has.any(1)
    scores, has = scores[rows], has[rows]
    if not len(scores):
        return float("nan")
    order = np.lexsort((has, -scores), axis=1)
    there = np.take_along_axis(has, order, 1)
    precision = np.cumsum(there, 1) / np.arange(1, there.shape[1] + 1)
    return float(((precision * there).sum(1) / there.sum(1)).mean())


def _cosine(first: Tensor, second: Tensor) -> Tensor:
    return nn.functional.cosine_similarity(first, second, dim=1)
