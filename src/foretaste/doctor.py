"""What this machine is, and what memory a run would take."""

import os
import platform
from dataclasses import dataclass
from typing import Any

from foretaste.errors import ConfigError
from foretaste.memory import available_memory
from foretaste.sealed_folder import versions

__all__ = ["Examined", "examine"]

GIB = 2**30
EVENT_BYTES = 4 + 4 + 8 + 1 + 4  # user, item, time, kind, value


@dataclass(frozen=True)
class Examined:
    """Versions, devices, threads, memory; and where counts were given, what each model takes."""

    versions: dict[str, str]
    system: str
    processors: int
    threads: int
    devices: tuple[str, ...]
    precision: str
    memory_gib: float | None  # available now
    counts: dict[str, int] | None
    needed_gib: dict[str, float]  # at the peak of a fit with default settings, the data included

    def to_json(self) -> dict[str, Any]:
        return vars(self)

    def text(self) -> str:
        """For a terminal."""
        memory = "unknown" if self.memory_gib is None else f"{self.memory_gib:.1f} GiB available"
        lines = [
            "versions   " + ", ".join(f"{name} {version}" for name, version in self.versions.items()),
            f"system     {self.system}",
            f"devices    {', '.join(self.devices)}; fits in {self.precision} where nothing else is asked",
            f"threads    {self.threads} of {self.processors} processors",
            f"memory     {memory}",
        ]
        if self.counts is not None:
            counted = ", ".join(f"{count:,} {name}" for name, count in self.counts.items())
            lines += ["", f"memory to fit on {counted}, with default settings (estimated):"]
            for name, needed in sorted(self.needed_gib.items(), key=lambda each: each[1]):
                fits = "" if self.memory_gib is None or needed < self.memory_gib else "   more than there is"
                lines.append(f"  {name:<14} {needed:8.2f} GiB{fits}")
        return "\n".join(lines)


def examine(users: int | None = None, items: int | None = None, events: int | None = None) -> Examined:
    """Look at the machine, and predict memory from counts where all three are given.

    Raises:
        ConfigError: Only some of the counts are given.
    """
    import torch

    from foretaste.run import Run
    from foretaste.train import precision_of

    given = [count for count in (users, items, events) if count is not None]
    if given and len(given) < 3:
        raise ConfigError("To predict memory give all of --users, --items and --events.")
    memory = available_memory()
    gpus = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    counts = {"users": users or 0, "items": items or 0, "events": events or 0} if given else None
    return Examined(
        versions(),
        platform.platform(),
        os.cpu_count() or 1,
        torch.get_num_threads(),
        ("cpu", *(f"cuda:{number} {name}" for number, name in enumerate(gpus))),
        str(precision_of(Run())),
        None if memory is None else round(memory / GIB, 2),
        counts,
        {} if counts is None else _needed(counts),
    )


def _needed(counts: dict[str, int]) -> dict[str, float]:
    from foretaste.models import MODELS

    data = EVENT_BYTES * counts["events"]
    return {name: round((data + settings().memory_needed(counts)) / GIB, 3) for name, settings in MODELS.items()}
