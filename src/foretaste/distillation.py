"""What a larger model, or several together, know of every item, taught to a smaller one."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from foretaste.batching import Padded
from foretaste.catalog import Table
from foretaste.dataset import Dataset
from foretaste.errors import ConfigError
from foretaste.losses import CHUNK_LOGITS
from foretaste.query import Queries
from foretaste.ragged import PAD, Ragged
from foretaste.recommender import About
from foretaste.sequential import SequenceModel

__all__ = ["Teacher", "divergence"]


@dataclass(frozen=True, eq=False)
class Teacher:
    """Fitted sequence models, each asked what comes after a history; their chances are averaged.

    Source: Hinton, Vinyals, Dean, "Distilling the Knowledge in a Neural Network", 2015, sections 2 and 3. Differs: the
        chances of an ensemble are averaged after they were softened.
    """

    models: Sequence[SequenceModel]
    items: Sequence[NDArray[np.int32]]  # per model (items,) what it calls the items of the student
    knows_users: Sequence[bool]  # per model, whether it was fitted on the same data, so that users mean the same
    people: Table | None  # what is known of the users of the student's data

    @classmethod
    def of(cls, bundles: Sequence[Path], about: About, data: Dataset) -> Self:
        """The teachers in these bundles.

        Args:
            about: What the student knows of its items.
            data: What the student learns from.

        Raises:
            BundleError: There is no bundle.
            ConfigError: A bundle is no sequence model, or does not know all items of the student.
        """
        from foretaste.bundle import load

        models, items = [], []
        for folder in bundles:
            model = load(folder)
            if not isinstance(model, SequenceModel):
                raise ConfigError(
                    f"teacher: {folder} is a bundle of {model.name}, whose scores are no logits. Take a sequence model."
                )
            index = model.items.index(about.items.lists())
            lacking = np.flatnonzero(index == PAD)
            if len(lacking):
                raise ConfigError(
                    f"teacher: {folder} does not know {len(lacking):,} of the {len(index):,} items of {data.name}, "
                    f"such as {about.items[int(lacking[0])]!r}. Fit it on a log with the same items."
                )
            models.append(model)
            items.append(index)
        same = [model.about.fingerprint == about.fingerprint for model in models]
        return cls(models, items, same, None if data.catalog is None else data.catalog.users)

    def chances(self, history: Padded, counts: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
        """How likely each item comes next.

        Args:
            history: (rows, length); kinds of events are not told.
            counts: (rows,) how many of its first events each row may show.
            temperature: What the scores are divided by before the softmax.

        Returns:
            (rows, items) in the numbers of the student, and (rows,) bool: did every teacher have an answer?
        """
        queries = self._queries(history, counts)
        together, answered = torch.zeros(()), torch.ones(len(counts), dtype=torch.bool)
        for model, items, knows_users in zip(self.models, self.items, self.knows_users, strict=True):
            there = queries.history.with_values(items[queries.history.values])
            asked = replace(queries, history=there, user=queries.user if knows_users else None)
            # A teacher answers as it does to anybody else, also where its student is trained in fewer bits.
            with torch.autocast("cpu", enabled=False), torch.autocast(history.items.device.type, enabled=False):
                scores = torch.from_numpy(model.score(asked)[:, items])
            answered &= (scores > -torch.inf).any(1)  # false for a row of NaN, too
            together = together + torch.softmax(scores / temperature, 1)
        device = history.items.device
        return (together / len(self.models)).to(device), answered.to(device)

    def _queries(self, history: Padded, counts: Tensor) -> Queries:
        shown = (torch.arange(history.items.shape[1], device=counts.device) < counts[:, None]).cpu()

        def flat(tensor: Tensor | None) -> NDArray[Any] | None:
            return None if tensor is None else tensor.cpu()[shown].numpy()

        items = history.items.cpu()[shown].numpy().astype(np.int32)
        user = None if history.user is None else history.user.cpu().numpy().astype(np.int32)
        return Queries(
            Ragged.from_lengths(items, counts.cpu().numpy()),
            times=flat(history.times),
            values=flat(history.values),
            user=user,
            user_features=None if user is None or self.people is None else self.people.take(user),
        )


def divergence(hidden: Tensor, items: Tensor, chances: Tensor, temperature: float) -> Tensor:
    """Mean Kullback-Leibler divergence from the given chances to the softened softmax, times temperature ** 2.

    Computed in chunks of rows with its gradients, as ``full_softmax`` is; the factor keeps the size of the gradient
    when the temperature changes.

    Args:
        hidden: (rows, dim) states of the student.
        items: (items, dim) item vectors; the student's chances are softmax(hidden @ items.T / temperature).
        chances: (rows, items) of the teacher, softened by the same temperature.

    Returns:
        A scalar, in nats; 0 without rows.

    Source: Hinton, Vinyals, Dean, 2015, section 2.
    """
    return _Divergence.apply(hidden, items, chances, temperature)  # type: ignore[no-any-return, no-untyped-call]


class _Divergence(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, hidden: Tensor, items: Tensor, chances: Tensor, temperature: float) -> Tensor:
        with torch.autocast(hidden.device.type, enabled=False):
            states, weights = hidden.float(), items.float()
            of_hidden, of_items = torch.empty_like(states), torch.zeros_like(weights)
            total = torch.zeros((), device=hidden.device)
            size = max(1, CHUNK_LOGITS // max(1, len(items)))
            for start in range(0, len(states), size):
                rows = slice(start, start + size)
                wanted = chances[rows].float()
                logs = torch.log_softmax(states[rows] @ weights.T / temperature, 1)
                total += torch.special.xlogy(wanted, wanted).sum() - (wanted * logs).sum()
                difference = logs.exp() - wanted
                of_hidden[rows] = difference @ weights
                of_items += difference.T @ states[rows]
        count = max(1, len(hidden))
        # Of a softmax of logits / T the gradient has 1 / T; of T ** 2 times it, T.
        context.save_for_backward(of_hidden * (temperature / count), of_items * (temperature / count))
        context.dtypes = hidden.dtype, items.dtype
        return total * (temperature**2 / count)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        of_hidden, of_items = context.saved_tensors
        type_hidden, type_items = context.dtypes
        (scale,) = gradients
        return (of_hidden * scale).to(type_hidden), (of_items * scale).to(type_items), None, None
