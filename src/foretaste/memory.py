"""This machine: what it is, how much memory there is, and how much this process took at its peak."""

import os
import platform
import resource
import sys
from pathlib import Path

__all__ = ["available_memory", "forget_peak", "machine", "peak_memory"]

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


def available_memory() -> int | None:
    """Bytes that could be taken without swapping; None where the system does not say."""
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return None


def machine() -> dict[str, str | int]:
    """What a result was measured on: processor, its cores, system."""
    processor = platform.processor()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        processor = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), processor)
    except OSError:
        pass
    return {"processor": processor, "cores": os.cpu_count() or 1, "system": f"{platform.system()} {platform.machine()}"}
