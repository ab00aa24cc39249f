"""What is popular among the categories that somebody likes; items are known by their categories alone."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from foretaste.catalog import Categories, Category, Table
from foretaste.dataset import Dataset, Needs
from foretaste.errors import MissingData
from foretaste.item_features import ItemFeatures
from foretaste.query import Holdout, Queries, TopK
from foretaste.recommender import About, Settings
from foretaste.run import Run
from foretaste.scoring import ScoringModel, similar

__all__ = ["CategoryPopular", "CategoryPopularModel"]

JITTER = 1e-5  # of the largest score


class CategoryPopular(Settings):
    """The row that models of content have to beat where items are new.

    With p(c) the mean popularity of the items of category c met in training, and s(c) the share of a history's
    categories that are c, an item of categories C has the score  sum over C of s(c) p(c) / |C|.  Who has no history is
    answered by the shares of all events. Items of the same categories are equal; among these the order is drawn once.
    """

    needs = Needs.ITEM_FEATURES
    item_columns: tuple[str, ...] | None = None
    """Of names of items. None: all that group the items."""
    seed: int = 0
    """Of the order among equals."""

    def _fit(self, train: Dataset, validation: Holdout | None, run: Run) -> "CategoryPopularModel":
        about = About.of(train)
        model = CategoryPopularModel(self, about)
        if not model.has.shape[1]:
            raise MissingData(
                f"No column of the items of {train.name} groups them by names: {', '.join(about.catalog) or 'none'}. "
                "Give an item table with categories (--items)."
            )
        return model

    def restore(self, about: About, state: Mapping[str, NDArray[Any]]) -> "CategoryPopularModel":
        return CategoryPopularModel(self, about)

    def named(self, table: Table) -> Table:
        """The columns that are read."""
        if self.item_columns is not None:
            return Table(len(table), {name: table[name] for name in self.item_columns})
        kept = {name: each for name, each in table.columns.items() if isinstance(each, Category | Categories)}
        return Table(len(table), kept)


class CategoryPopularModel(ScoringModel):
    """The names of the items, and the popularity of each; all of it follows from what is known of the items."""

    settings: CategoryPopular

    def __init__(self, settings: CategoryPopular, about: About) -> None:
        super().__init__(settings, about)
        table = settings.named(about.catalog)
        codes = ItemFeatures.of(table.take(about.met))
        found = codes.codes(table)
        shape = (len(table), len(codes.meanings))
        ones = np.ones(len(found.values), np.float32)
        self.has = csr_matrix((ones, found.values.copy(), found.offsets), shape)  # (items, categories)
        support = self.has[about.met].sum(0)
        popularity = about.popularity @ self.has / np.maximum(np.asarray(support).ravel(), 1)
        counts = found.lengths.clip(1)[found.row_of_value()]
        self._popularity = self.has.copy()  # (items, categories) of each category that an item has, by how many it has
        self._popularity.data = (popularity[self.has.indices] / counts).astype(np.float32)
        highest = max(float(self._popularity.data.max(initial=0)), 1e-12)
        order = np.random.default_rng(settings.seed).random(len(table), np.float32)
        self._order = order * np.float32(JITTER * highest)
        overall = about.popularity @ self.has
        shares = (overall / max(float(overall.sum()), 1e-12)).astype(np.float32)
        self._to_everybody = np.asarray(self._popularity @ shares, np.float32)

    @property
    def parameters(self) -> int:
        """The popularity of each category."""
        return int(self.has.shape[1])

    def state(self) -> dict[str, NDArray[Any]]:
        return {}

    def answerable(self) -> NDArray[np.bool_]:
        """(items,) those of a category that training met."""
        return np.asarray(self.has.getnnz(axis=1) > 0)

    def knows_new_items(self) -> bool:
        return True

    def score(self, queries: Queries) -> NDArray[np.float32]:
        """(queries, items) by the shares of the categories in each history; by everybody's where there is none."""
        shares = csr_matrix(self._readable(queries).matrix(len(self.items)).astype(np.float32) @ self.has)
        total = np.asarray(shares.sum(1), np.float32).ravel()
        shares.data /= np.repeat(np.maximum(total, 1), np.diff(shares.indptr))
        scores = np.asarray((shares @ self._popularity.T).toarray(), np.float32)
        scores[total == 0] = self._to_everybody
        scores += self._order
        scores[:, ~self.answerable()] = -np.inf
        return scores

    def similar_items(self, items: Sequence[Any], k: int = 10) -> TopK:
        """By the cosine between the categories that each has."""
        import torch

        index = self._known(items)
        lengths = np.sqrt(self.has.getnnz(axis=1).clip(1)).astype(np.float32)
        shared = np.asarray((self.has[index] @ self.has.T).toarray(), np.float32)
        scores = torch.from_numpy(shared / lengths[index, None] / lengths)
        return similar(self, index, scores, k, self.answerable())
