"""Further tasks for vectors of people and items: ratings, likes, categories, likeness of content."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, NonNegativeFloat
from torch import Tensor, nn

from foretaste.catalog import Categories, Category, Table
from foretaste.item_features import ItemFeatures
from foretaste.nets.rows import rows_taken
from foretaste.ragged import Ragged

__all__ = ["TaskHeads", "Tasks", "average_precision", "item_names"]

MOST_NAMES = 2048  # that are looked at for each pair; of more a sample is drawn for each batch


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

    Of more than 2,048 names a batch looks at those that its items have and at as many others, drawn evenly, which stand
    for all the rest: on average the loss is the same, and what a step takes does not grow with the names.

    Source: tasks that share what they stand on are those of Caruana, "Multitask Learning", Machine Learning 28, 1997;
        the form of the rating is that of biased factorisation (Koren, Bell, Volinsky, Computer 42, 2009, eq. 4) with
        the person's bias read off their vector, so that strangers have one too.
    """

    scale: Tensor  # (4,) mean, deviation, lowest and highest of the values of training
    codes: Tensor  # (total,) the names of all items, one item after another ...
    offsets: Tensor  # (items + 1,) ... and where each begins

    def __init__(self, dim: int, tasks: Tasks, has: Ragged, names: int) -> None:
        """Args: has, (items) the names of each, by number; an item without any teaches nothing of names."""
        super().__init__()
        self.tasks, self.names = tasks, names
        self.register_buffer("scale", torch.tensor([0.0, 1.0, 0.0, 0.0]))
        self.register_buffer("codes", torch.from_numpy(has.values.astype(np.int64)), persistent=False)
        self.register_buffer("offsets", torch.from_numpy(has.offsets.copy()), persistent=False)
        self.rating = _Pairs(dim, len(has)) if tasks.rating else None
        self.sentiment = _Pairs(dim, len(has)) if tasks.sentiment else None
        self.category = nn.Linear(dim, names) if tasks.category else None

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
            named = self.named[index]
            entropy = self._entropy(self.category, items.to(self.category.weight.dtype), index) * named
            found["category"] = self.tasks.category * entropy.sum() / named.sum().clamp(min=1)
        if self.tasks.content:
            other = torch.randperm(len(index), device=index.device)
            counted = (index != index[other]) & self.named[index] & self.named[index[other]]
            alike = self._alike(index, index[other])
            apart = (nn.functional.cosine_similarity(items.float(), items[other].float()) - alike).square() * counted
            found["content"] = self.tasks.content * apart.sum() / counted.sum().clamp(min=1)
        return found

    @property
    def named(self) -> Tensor:
        """(items,) bool, has it any name?"""
        return self.offsets.diff() > 0

    def has(self, index: Tensor) -> Tensor:
        """(n, names) bool, which names some items have; (n,) their numbers."""
        row, name = self._rows(index)
        has = torch.zeros(len(index), self.names, dtype=torch.bool, device=index.device)
        has[row, name] = True
        return has

    def _rows(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """(total,) the rows of some items (n,) that have a name, and the names."""
        names, offsets = rows_taken(self.codes, self.offsets, index)
        return torch.arange(len(index), device=index.device).repeat_interleave(offsets.diff()), names

    def _entropy(self, category: nn.Linear, items: Tensor, index: Tensor) -> Tensor:
        """(pairs,) the mean, over all names, of the binary cross-entropy; of many names, what it is expected to be."""
        if self.names <= MOST_NAMES:
            logits, truth = category(items).float(), self.has(index).float()
            return nn.functional.binary_cross_entropy_with_logits(logits, truth, reduction="none").mean(1)
        row, name = self._rows(index)
        drawn = torch.unique(torch.randint(self.names, (MOST_NAMES,), device=index.device))
        place = torch.searchsorted(drawn, name).clamp(max=len(drawn) - 1)
        own = drawn[place] == name
        others = torch.ones(len(index), len(drawn), dtype=torch.bool, device=index.device)
        others[row[own], place[own]] = False
        weight, bias = nn.functional.embedding(drawn, category.weight), category.bias[drawn]
        lacking = nn.functional.softplus(nn.functional.linear(items, weight, bias).float()) * others
        rest = (self.names - torch.bincount(row, minlength=len(index))) / others.sum(1).clamp(min=1)
        logits = (items[row] * nn.functional.embedding(name, category.weight)).sum(1) + category.bias[name]
        having = torch.zeros_like(rest).index_add(0, row, nn.functional.softplus(-logits.float()))
        return (having + lacking.sum(1) * rest) / self.names

    def _alike(self, first: Tensor, second: Tensor) -> Tensor:
        """(pairs,) the cosine of the names of two items each; 0 where one has none."""
        (row, name), (other_row, other_name) = self._rows(first), self._rows(second)
        shared = torch.isin(row * self.names + name, other_row * self.names + other_name)
        count = torch.bincount(row[shared], minlength=len(first)).float()
        lengths = self.offsets.diff()
        return count / (lengths[first] * lengths[second]).clamp(min=1).float().sqrt()

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


def item_names(table: Table, met: NDArray[np.bool_]) -> tuple[Ragged, Sequence[str]]:
    """The names, such as genres, that each item has of those that items met in training have, by number; and these."""
    kept = {name: each for name, each in table.columns.items() if isinstance(each, Category | Categories)}
    named = Table(len(table), kept)
    features = ItemFeatures.of(named.take(met))
    return features.codes(named), features.meanings


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
