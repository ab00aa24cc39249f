"""What every benchmark shares: the machine in words, child processes, peers in their own environment, tables."""

import json
import os
import platform
import shlex
import statistics
import subprocess
import sys
import tempfile
import venv
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
WORK = HERE / ".work"
VENVS = HERE / ".venvs"
LIBRARIES = ("foretaste", "numpy", "scipy", "torch", "polars", "pyarrow", "implicit")
THREAD_SETTINGS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "POLARS_MAX_THREADS")


class PeerAbsent(Exception):
    """The peer could not be installed, and why."""


@dataclass(frozen=True)
class Peer:
    """A library to measure beside, with the exact versions to install."""

    name: str
    requirements: tuple[str, ...]

    def python(self) -> Path:
        """The interpreter of the peer's own environment, which is made and filled where it is not there.

        Raises:
            PeerAbsent: pip could not install it.
        """
        folder = VENVS / self.name
        python, stamp = folder / "bin" / "python", folder / "installed.txt"
        wanted = "\n".join(self.requirements)
        if not stamp.exists() or stamp.read_text() != wanted:
            print(f"installing {wanted.replace(chr(10), ', ')} into {folder.relative_to(HERE.parent)}", flush=True)
            venv.create(folder, with_pip=True)
            install = [str(python), "-m", "pip", "install", "--quiet", *self.requirements]
            done = subprocess.run(install, capture_output=True, text=True, check=False)
            if done.returncode:
                errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
                raise PeerAbsent(f"pip could not install {', '.join(self.requirements)}: {' '.join(errors[-2:])}")
            stamp.write_text(wanted)
        return python


def machine() -> dict[str, Any]:
    """Processor, cores and memory of this machine, and how busy it is with other work."""
    cpu = platform.processor() or platform.machine()
    memory = None
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        cpu = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), cpu)
        total = Path("/proc/meminfo").read_text().split("MemTotal:", 1)[1].split()[0]
        memory = round(int(total) / 2**20, 1)
    except (OSError, IndexError):
        pass
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "memory_gib": memory,
        "system": f"{platform.system()} {platform.machine()}",
        "load_average_at_start": round(os.getloadavg()[0], 2),
    }


def versions(names: Sequence[str] = LIBRARIES) -> dict[str, str | None]:
    """The versions of the libraries that matter, None = not installed; and the commit that was measured.

    The commit is None outside a checkout, and ends with -dirty where files differ from it.
    """
    found: dict[str, str | None] = {"commit": _commit(), "python": platform.python_version()}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found


def _commit() -> str | None:
    try:
        asked = ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
        done = subprocess.run(asked, cwd=HERE, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return None
    return done.stdout.strip() or None


@contextmanager
def scratch(name: str) -> Iterator[Path]:
    """A new folder for files of one run, removed at the end."""
    WORK.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f"{name}-", dir=WORK) as folder:
        yield Path(folder)


def environment(threads: int, *, spinning: bool = False) -> dict[str, str]:
    """The environment of a child process in which every library uses the same number of threads.

    Args:
        spinning: Let threads wait for each other in the libraries' own way, which is to spin a while. On a quiet
            machine small batches train 1.4 times as fast by that, and on a busy one 3 times as slowly.
    """
    wanted = {**os.environ, **dict.fromkeys(THREAD_SETTINGS, str(threads))}
    wanted.pop("OMP_WAIT_POLICY", None)
    return wanted if spinning else {**wanted, "OMP_WAIT_POLICY": "passive"}


def run_child(python: Path | str, script: Path, arguments: Sequence[object], threads: int) -> dict[str, Any]:
    """What a child process printed as JSON on its last line.

    Raises:
        RuntimeError: It failed; the end of what it said on standard error is told.
    """
    command = [str(python), str(script), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment(threads))
    if done.returncode:
        raise RuntimeError(f"{script.name} ended with {done.returncode}: {done.stderr[-1500:]}")
    answer: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return answer


def told(script: str, arguments: Sequence[str], places: Sequence[str] = ("--data-dir", "--out")) -> str:
    """The command of a result, without the options that say where something lies: that is another matter elsewhere."""
    words = iter(arguments)
    kept = []
    for word in words:
        if word in places:
            next(words, None)
        elif not word.startswith(tuple(f"{place}=" for place in places)):
            kept.append(word)
    return shlex.join(["python", f"benchmarks/{script}", *kept])


def own_python() -> str:
    return sys.executable


def summary(values: Sequence[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def table(title: str, header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Aligned text: the first column to the left, numbers to the right."""
    cells = [[str(each) for each in row] for row in (header, *rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
    lines = [
        "  ".join(
            cell.ljust(width) if not at else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in cells
    ]
    rule = "  ".join("-" * width for width in widths)
    return "\n".join([title, lines[0], rule, *lines[1:], ""])


def write_result(path: Path, content: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.part")
    aside.write_text(json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")
    os.replace(aside, path)
