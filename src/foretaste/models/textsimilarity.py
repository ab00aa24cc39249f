"""Items whose texts are like those of the history; nothing is learned of people."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, diags_array

from foretaste.catalog import Table
from foretaste.dataset import Dataset, Needs
from foretaste.errors import MissingData
from foretaste.query import Holdout, Queries, TopK
from foretaste.recommender import About, Settings
from foretaste.run import Run
from foretaste.scoring import ScoringModel, similar
from foretaste.text_encoder import TextEncoder
from foretaste.texts import row_texts, word_weights
from foretaste.train import device_of
from foretaste.vocab import Vocab

__all__ = ["TextSimilarity", "TextSimilarityModel"]

AnyMatrix = NDArray[np.float32] | csr_matrix


class TextSimilarity(Settings):
    """The cosine between an item's text and the mean of the texts of a history, each of length 1.

    By "encoder" a text is what a pretrained sentence encoder makes of it; by "words" the weights of its words,

        tf-idf(word) = count in the text * (1 + ln((1 + n) / (1 + texts with the word))),

    n being the texts of the items met in training.

    Source: content-based filtering after Pazzani, Billsus, "Content-Based Recommendation Systems", 2007, section 10.4.
    """

    needs = Needs.ITEM_TEXT
    by: Literal["encoder", "words"] = "encoder"
    encoder: str = "all-MiniLM-L6-v2"
    """A folder, or the name of a sentence encoder."""
    text_columns: tuple[str, ...] | None = None
    """What is read of items. None: all texts, then all names that group them."""

    def _fit(self, train: Dataset, validation: Holdout | None, run: Run) -> "TextSimilarityModel":
        about = About.of(train)
        texts = row_texts(about.catalog, self.text_columns, met=about.met)
        if not any(texts):
            raise MissingData(
                f"No item of {train.name} has a text: its columns are {', '.join(about.catalog) or 'none'}. Give an "
                "item table with texts (--items)."
            )
        if self.by == "words":
            return TextSimilarityModel(self, about, word_weights(texts, about.met))
        encoder = TextEncoder(self.encoder, str(device_of(run)))
        return TextSimilarityModel(self, about, np.nan_to_num(encoder.encode(texts, run.log)))

    def restore(self, about: About, state: Mapping[str, NDArray[Any]]) -> "TextSimilarityModel":
        if self.by == "words":
            texts = row_texts(about.catalog, self.text_columns, met=about.met)
            return TextSimilarityModel(self, about, word_weights(texts, about.met))
        return TextSimilarityModel(self, about, state["vectors"].astype(np.float32))


class TextSimilarityModel(ScoringModel):
    """A row per item, of length 1, or 0 where it has no text."""

    settings: TextSimilarity

    def __init__(self, settings: TextSimilarity, about: About, vectors: AnyMatrix) -> None:
        super().__init__(settings, about)
        self._vectors = _of_length_one(vectors)

    @property
    def parameters(self) -> int:
        """Weights of words, or the numbers of all vectors."""
        return int(self._vectors.nnz if isinstance(self._vectors, csr_matrix) else self._vectors.size)

    def state(self) -> dict[str, NDArray[Any]]:
        """What an encoder made; weights of words follow from the texts."""
        return {} if isinstance(self._vectors, csr_matrix) else {"vectors": self._vectors}

    def answerable(self) -> NDArray[np.bool_]:
        """(items,) those with a text."""
        return _lengths(self._vectors) > 0

    def knows_new_items(self) -> bool:
        return True

    def _with_rows(self, items: Vocab, catalog: Table) -> Self:
        if isinstance(self._vectors, csr_matrix):
            return super()._with_rows(items, catalog)
        met = np.pad(self.about.met, (0, len(items) - len(self.items)))
        texts = row_texts(catalog, self.settings.text_columns, met=met)[len(self.items) :]
        fresh = TextEncoder(self.settings.encoder).encode(texts)
        model = super()._with_rows(items, catalog)
        model._vectors = _of_length_one(np.concatenate([self._vectors, np.nan_to_num(fresh)]))
        return model

    def score(self, queries: Queries) -> NDArray[np.float32]:
        """(queries, items) cosines; NaN for a history without a text."""
        readable = self._readable(queries)
        asked = _of_length_one(readable.matrix(len(self.items)).astype(np.float32) @ self._vectors)
        scores = _dense(asked @ self._vectors.T)
        scores[:, ~self.answerable()] = -np.inf
        scores[readable.history.lengths == 0] = np.nan
        return scores

    def similar_items(self, items: Sequence[Any], k: int = 10) -> TopK:
        """By the cosine between texts."""
        import torch

        index = self._known(items)
        scores = torch.from_numpy(_dense(self._vectors[index] @ self._vectors.T))
        return similar(self, index, scores, k, self.answerable())


def _lengths(vectors: AnyMatrix) -> NDArray[np.float32]:
    squares = vectors.multiply(vectors).sum(1) if isinstance(vectors, csr_matrix) else (vectors * vectors).sum(1)
    return np.asarray(np.sqrt(np.asarray(squares).ravel()), np.float32)


def _of_length_one(vectors: AnyMatrix) -> AnyMatrix:
    scale = (1 / np.maximum(_lengths(vectors), 1e-12)).astype(np.float32)
    if isinstance(vectors, csr_matrix):
        return csr_matrix(diags_array(scale) @ vectors)
    return np.asarray(vectors * scale[:, None], np.float32)


def _dense(scores: Any) -> NDArray[np.float32]:
    return np.asarray(scores.toarray() if hasattr(scores, "toarray") else scores, np.float32)
