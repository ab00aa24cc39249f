"""Vectors of texts from the encoder of a T5: one of a name, or one that was made here."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from foretaste.encoders import VectorCache, cache_folder, digest_of_source, obtained
from foretaste.errors import ConfigError
from foretaste.ragged import groups_within
from foretaste.run import Log, silent
from foretaste.t5_pretraining import OwnT5

__all__ = ["T5Encoder"]

MOST_TOKENS = 256  # of a text that are read
KNOWN_SHARE = 0.9  # of the pieces of a network that its tokenizer knows at the least; some are there to fill up
TOGETHER = 2048  # texts between two lines of progress
PLACES = 8192  # tokens and padding that are encoded together


class T5Encoder:
    """The encoder of a T5; its weights are loaded when a text is asked for that is not kept.

    Args:
        name: A folder, or the name of a model on the Hugging Face hub.
        device: Where it computes.
        own: A T5 that was made here, in place of one of that name.

    Source: the encoder is that of Raffel et al., JMLR 2020; a text is the mean of the last states of its tokens as in
        Ni et al., "Sentence-T5", Findings of ACL 2022 (encoder-only mean). Differs: no layer over it, and
        not made to be of length 1.
    """

    def __init__(self, name: str, device: str = "cpu", own: OwnT5 | None = None) -> None:
        self.name, self.own, self._device = name, own, device

    def encode(self, texts: Sequence[str], log: Log = silent, *, keep: bool = True) -> NDArray[np.float32]:
        """(texts, width); NaN for an empty text. What was encoded and kept is found on disk.

        Args:
            log: Gets how many were encoded, and how many more there are.
            keep: Keep on disk what was encoded, so that it need not be again.

        Raises:
            ConfigError: No encoder of that name is to be had, and texts are not on disk; it says how to get one.
        """
        source = self._source if self.own is None else self.own.digest()
        cache = VectorCache(cache_folder() / "texts" / digest_of_source(source, f"t5, mean of {MOST_TOKENS}"))
        return cache.vectors(texts, lambda fresh: self._encoded(fresh, log), log, keep=keep)

    @cached_property
    def network(self) -> Any:
        """The encoder itself, without the decoder.

        Raises:
            ConfigError: It is not to be had.
        """
        return self._loaded[0]

    @cached_property
    def tokenizer(self) -> Any:
        """What cuts texts into tokens, as transformers has it."""
        return self._loaded[1]

    @cached_property
    def _loaded(self) -> tuple[Any, Any]:
        if self.own is not None:
            return self.own.network.get_encoder().to(self._device).eval(), self.own.tokenizer
        try:
            from transformers import AutoTokenizer, T5EncoderModel
            from transformers.utils.logging import disable_progress_bar
        except ImportError as error:
            raise ConfigError("A T5 needs the package transformers: pip install 'foretaste[text]'.") from error
        disable_progress_bar()  # type: ignore[no-untyped-call]  # of a load that takes a second
        place = str(self._source)

        def load(here: bool) -> tuple[Any, Any]:
            network = T5EncoderModel.from_pretrained(place, local_files_only=here, dtype=torch.float32)
            return network, AutoTokenizer.from_pretrained(place, local_files_only=here)

        try:
            network, tokenizer = obtained(self._source, load)
            _check_belongs(tokenizer, network)
        except LookupError as error:
            raise ConfigError(
                f"There is no T5 {self.name!r}: {error}. Give a folder that holds one (config.json, model.safetensors, "
                "tokenizer.json), or the name of one on the hub, or set pretrain: true, which makes a small one from "
                "the texts of the items."
            ) from error
        return network.to(self._device).eval(), tokenizer

    @cached_property
    def _source(self) -> Path | str:
        """A folder, or a name on the hub."""
        return Path(self.name) if Path(self.name).is_dir() else self.name

    @torch.inference_mode()
    def _encoded(self, texts: Sequence[str], log: Log) -> NDArray[np.float32]:
        """(texts, width) of texts none of which is empty."""
        parts = [np.empty((0, int(self.network.config.d_model)), np.float32)]
        for start in range(0, len(texts), TOGETHER):
            if start:
                log(f"{self._called}: {start:,} of {len(texts):,} texts encoded")
            parts.append(self._means(list(texts[start : start + TOGETHER])))
        if texts:
            log(f"{self._called}: {len(texts):,} texts encoded")
        return np.concatenate(parts)

    def _means(self, texts: list[str]) -> NDArray[np.float32]:
        tokens = self.tokenizer(texts, truncation=True, max_length=MOST_TOKENS)["input_ids"]
        lengths = np.array([len(each) for each in tokens])
        means = np.empty((len(texts), int(self.network.config.d_model)), np.float32)
        for rows in groups_within(np.argsort(lengths, kind="stable"), lengths, PLACES):
            read = torch.arange(int(lengths[rows].max())) < torch.from_numpy(lengths[rows])[:, None]
            inputs = torch.full(read.shape, self.tokenizer.pad_token_id)
            inputs[read] = torch.tensor([token for row in rows for token in tokens[row]])
            read = read.to(self._device)
            states = self.network(input_ids=inputs.to(self._device), attention_mask=read).last_hidden_state
            states = states.float() * read.unsqueeze(-1)
            means[rows] = (states.sum(1) / read.sum(1, keepdim=True)).cpu().numpy()
        return means

    @property
    def _called(self) -> str:
        return self.name if self.own is None else "t5"


def _check_belongs(tokenizer: Any, network: Any) -> None:
    """Raises LookupError where the tokenizer is another's: without its file, transformers makes up an empty one."""
    pieces, known = len(tokenizer), network.config.vocab_size
    if not KNOWN_SHARE * known <= pieces <= known:
        raise LookupError(
            f"its tokenizer has {pieces:,} pieces and its network {known:,}; tokenizer.json may be missing"
        )
