"""This machine: what it is, how much memory there is, and how much this process took at its peak."""

import ctypes
import os
import platform
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["available_memory", "forget_peak", "freed_memory_kept", "is_out_of_memory", "machine", "peak_memory"]

MMAP_MAX, MMAP_THRESHOLD, TRIM_THRESHOLD = -4, -3, -1  # of mallopt, from malloc.h
STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def forget_peak() -> bool:
    """Start measuring the peak anew; False where the system cannot (only Linux can)."""
    try:
        CLEAR.write_text("5")
    except OSError:
        return False
    return True


def peak_memory() -> int:
    """Bytes of resident memory at the peak, since ``forget_peak`` or the start of the process."""
    try:
        for line in STATUS.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


@contextmanager
def freed_memory_kept() -> Iterator[None]:
    """Within the block the C library keeps what is freed instead of giving it back to the system; only glibc can.

    A training step frees and takes the same large arrays again and again, and each time the system would have to fill
    them with zeros: a tenth to a quarter of a step on a CPU. After the block what is free is given back.
    """
    try:
        library = ctypes.CDLL(None) if sys.platform.startswith("linux") else None
        tune, trim = library.mallopt, library.malloc_trim  # type: ignore[union-attr]
    except (OSError, AttributeError):
        yield
        return
    tune(MMAP_MAX, 0)
    tune(TRIM_THRESHOLD, ctypes.c_int(2**31 - 1))
    try:
        yield
    finally:
        tune(MMAP_MAX, 65_536)  # what glibc begins with
        # What its thresholds grow to by themselves as large arrays come and go, until somebody sets one: back at their
        # beginning and set, they would stay there, and answering after training would take twice as long.
        tune(MMAP_THRESHOLD, 32 * 2**20)
        tune(TRIM_THRESHOLD, 64 * 2**20)
        trim(0)


def available_memory() -> int | None:
    """Bytes that could be taken without swapping; None where the system does not say."""
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return None


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception, of Python, NumPy or torch, means that memory could not be had, on a CPU or a GPU."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    said = str(error).lower()
    return isinstance(error, RuntimeError) and ("allocate memory" in said or "out of memory" in said)


def machine() -> dict[str, str | int]:
    """What a result was measured on: processor, its cores, system."""
    processor = platform.processor()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        processor = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), processor)
    except OSError:
        pass
    return {"processor": processor, "cores": os.cpu_count() or 1, "system": f"{platform.system()} {platform.machine()}"}
