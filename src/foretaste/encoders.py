"""Pretrained encoders of texts: found on this machine or on the hub, and what they made is kept on disk."""

import hashlib
import os
import re
import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit
from urllib.request import getproxies

import numpy as np
from numpy.typing import NDArray

from foretaste.errors import BundleError, ForetasteError
from foretaste.run import Log, silent
from foretaste.storage import read_arrays, write_arrays

__all__ = ["VectorCache", "cache_folder", "digest_of_source", "hub_answers", "obtained"]

KEY = 16  # bytes of the digest of a text
PATIENCE = 3  # seconds until the hub counts as unreachable
HUB_NAME = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?")
FILES = (".json", ".safetensors", ".bin", ".txt", ".model")  # that make an encoder what it is

Encoder = TypeVar("Encoder")


class VectorCache:
    """The vectors of all texts that an encoder ever encoded, known by the content of each text.

    Args:
        folder: Of this encoder alone.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def vectors(
        self, texts: Sequence[str], encode: Callable[[Sequence[str]], NDArray[np.float32]], log: Log = silent
    ) -> NDArray[np.float32]:
        """(texts, dim); NaN for an empty text. Texts that are the same are encoded once.

        Args:
            encode: From texts that are not kept yet to their vectors (texts, dim); asked for those of no text at all
                where nothing tells how many numbers a vector has.
            log: Told where vectors cannot be kept, so that they will be made again.
        """
        distinct = sorted({text for text in texts if text})
        keys = np.array([_key(text) for text in distinct], f"V{KEY}")
        known, vectors = self._stored()
        place = {key: row for row, key in enumerate(known.tolist())}
        fresh = [text for text, key in zip(distinct, keys.tolist(), strict=True) if key not in place]
        if fresh or not len(vectors):
            made = encode(fresh)
            try:
                self._store(fresh, made)
            except ForetasteError as error:
                log(f"what was encoded is not kept: {error}")
            place |= {_key(text): len(vectors) + row for row, text in enumerate(fresh)}
            vectors = np.concatenate([vectors, made]) if len(vectors) else made
        rows = np.array([place[_key(text)] if text else -1 for text in texts], np.int64)
        found = vectors[rows].astype(np.float32) if len(vectors) else np.empty((len(texts), made.shape[1]), np.float32)
        found[rows == -1] = np.nan
        return found

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
