"""Pretrained encoders of texts: found on this machine or on the hub, and what they made is kept on disk."""

import hashlib
import os
import re
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit
from urllib.request import getproxies

import numpy as np
from numpy.typing import NDArray

from foretaste.errors import BundleError, ForetasteError
from foretaste.run import Log, silent
from foretaste.storage import mapped_arrays, write_arrays

__all__ = ["VectorCache", "cache_folder", "digest_of_source", "hub_answers", "obtained"]

FORMAT = 2  # of the files in which vectors are kept; those of others are left alone
KEY = 16  # bytes of the digest of a text
KEYS = f"S{KEY}"
PATIENCE = 3  # seconds until the hub counts as unreachable
HUB_NAME = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?")
FILES = (".json", ".safetensors", ".bin", ".txt", ".model")  # that make an encoder what it is

Encoder = TypeVar("Encoder")


class VectorCache:
    """The vectors of the texts that an encoder encoded, known by the content of each text; the texts are not kept.

    A file holds keys, ascending, and their vectors; both are memory-mapped, so that finding some texts reads little
    more than their vectors, however many are kept. Each file is named by its keys and never written again: processes
    that write at the same time do not meet.

    Args:
        folder: Of this encoder alone.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder / f"format-{FORMAT}"

    def vectors(
        self,
        texts: Sequence[str],
        encode: Callable[[Sequence[str]], NDArray[np.float32]],
        log: Log = silent,
        *,
        keep: bool = True,
    ) -> NDArray[np.float32]:
        """(texts, dim); NaN for an empty text. Texts that are the same are encoded once.

        Args:
            encode: From texts that are not kept yet to their vectors (texts, dim); asked for those of no text at all
                where nothing tells how many numbers a vector has.
            log: Told where vectors cannot be kept, so that they will be made again.
            keep: False: what is not there yet is encoded and forgotten, as what people say in queries should be.
        """
        distinct = sorted({text for text in texts if text})
        known, vectors = self._kept(np.array([_key(text) for text in distinct], KEYS))
        fresh = [text for text, there in zip(distinct, known.tolist(), strict=True) if not there]
        if fresh or not vectors.shape[1]:
            made = encode(fresh)
            if keep:
                self._keep(fresh, made, log)
            vectors = vectors if known.any() else np.empty((len(distinct), made.shape[1]), np.float32)
            vectors[~known] = made
        place = {text: row for row, text in enumerate(distinct)}
        found = np.full((len(texts), vectors.shape[1]), np.nan, np.float32)
        there = [row for row, text in enumerate(texts) if text]
        found[there] = vectors[[place[texts[row]] for row in there]]
        return found

    def _kept(self, keys: NDArray[np.bytes_]) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
        """(keys,) which of these are kept, and (keys, dim) their vectors; no numbers where nothing is kept at all."""
        known, vectors = np.zeros(len(keys), bool), np.empty((len(keys), 0), np.float32)
        for path in sorted(self._folder.glob("*.safetensors")):
            try:
                arrays = mapped_arrays(path)
            except BundleError:  # torn: what it held is made anew
                with suppress(OSError):
                    path.unlink()
                continue
            kept, made = arrays["keys"].view(KEYS).ravel(), arrays["vectors"]
            if not vectors.shape[1]:
                vectors = np.empty((len(keys), made.shape[1]), np.float32)
            row = np.searchsorted(kept, keys).clip(max=len(kept) - 1)
            here = kept[row] == keys
            vectors[here] = made[row[here]]
            known |= here
            if known.all():
                break
        return known, vectors

    def _keep(self, texts: Sequence[str], vectors: NDArray[np.float32], log: Log) -> None:
        if not len(texts):
            return
        keys = np.array([_key(text) for text in texts], KEYS)
        order = np.argsort(keys)
        bare = keys[order].view(np.uint8).reshape(-1, KEY)
        name = hashlib.blake2b(bare.tobytes(), digest_size=KEY).hexdigest()
        try:
            write_arrays(self._folder / f"{name}.safetensors", {"keys": bare, "vectors": vectors[order]})
        except ForetasteError as error:
            log(f"what was encoded is not kept: {error}")


def cache_folder() -> Path:
    """Where what is made once is kept: FORETASTE_CACHE, or the user's folder for such."""
    if named := os.environ.get("FORETASTE_CACHE"):
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "foretaste"


def digest_of_source(source: Path | str, *beside: str) -> str:
    """A name for what an encoder makes: known by its files, or, of one on the hub, by its name.

    Args:
        source: A folder, or a name on the hub.
        beside: What else decides what it makes.
    """
    digest = hashlib.blake2b(digest_size=KEY)
    if isinstance(source, Path):
        for path in sorted(source.rglob("*")):
            if path.suffix in FILES:
                digest.update(path.relative_to(source).as_posix().encode())
                digest.update(path.read_bytes())
    else:
        digest.update(source.encode())
    for each in beside:
        digest.update(b"\0" + each.encode())
    return digest.hexdigest()


def obtained(source: Path | str, load: Callable[[bool], Encoder]) -> Encoder:
    """An encoder from its folder or from this machine, else from the hub, which is asked only then.

    Args:
        source: A folder, or a name on the hub.
        load: Loads it; told whether to look on this machine alone.

    Raises:
        LookupError: It is not to be had; the text is the reason.
    """
    for here in (True, False):  # the hub is asked, and waited for, only for what is not here already
        try:
            return load(here)
        except Exception as error:  # of the file system, of the hub, of the network, of the model's own code
            reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
        if isinstance(source, Path):
            break
        if not HUB_NAME.fullmatch(source):
            reason = "there is no such folder, and the hub has no such names"
            break
        if here and not hub_answers():
            reason = "it is not on this machine, and the Hugging Face hub cannot be reached"
            break
    raise LookupError(reason)


def hub_answers() -> bool:
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
