"""What changes how we fit, not what: seeds with addresses, device, threads, precision, and where messages go."""

import hashlib
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, Protocol, Self

import numpy as np

__all__ = ["Log", "Precision", "Run", "silent", "warned"]

Precision = Literal["auto", "fp32", "bf16", "fp16"]


class Log(Protocol):
    """Where a run tells what it does: a message for people and its numbers for machines."""

    def __call__(self, message: str, numbers: dict[str, float] | None = None) -> None: ...


def silent(message: str, numbers: dict[str, float] | None = None) -> None:
    """The log that keeps nothing."""


def warned(message: str, numbers: dict[str, float] | None = None) -> None:
    """The log of those who call from Python and name none, for what they would not want to miss."""
    warnings.warn(message, stacklevel=3)


@dataclass(frozen=True)
class Run:
    """How a fit is carried out.

    Every random draw has an address: ``run.rng("lightgcn", "edges", epoch)`` is the same stream in each run
    with the same seed, whatever else was drawn before. So a resumed run repeats an uninterrupted one.
    """

    seed: int = 0
    device: str = "auto"  # "auto", "cpu", "cuda", "cuda:1" ...
    threads: int | None = None  # None: as many as torch takes
    precision: Precision = "auto"  # "auto": bf16 where the device computes in it, else fp32
    compile: bool = False  # compile the blocks of networks while they learn: a minute at first, then faster steps
    checkpoints: Path | None = None  # folder for checkpoints of this fit; None: no checkpoints
    resume: bool = False  # go on from the checkpoint, if there is one
    log: Log = field(default=silent, compare=False)
    progress: Callable[[str, int, int, str], None] | None = field(default=None, compare=False)
    # progress(what, done, total, note): called at most a few times a second on long work

    def of_part(self, label: str) -> Self:
        """The run of a part of the fit; its checkpoints go below those of the whole, so that they go with them."""
        if self.checkpoints is None:
            return self
        self.checkpoints.mkdir(parents=True, exist_ok=True)
        return replace(self, checkpoints=self.checkpoints / label)

    def rng(self, *address: object) -> np.random.Generator:
        return np.random.default_rng(self.seed_of(*address))

    def seed_of(self, *address: object) -> int:
        """A 63-bit seed for the stream with this address."""
        text = "/".join(map(str, (self.seed, *address)))
        return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1
