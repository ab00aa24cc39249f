"""How a run looks in a terminal: messages and progress on standard error, all of it also as JSON lines in a file."""

import json
import math
import time
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from rich.console import Console as RichConsole
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from foretaste.curves import Curves

__all__ = ["Console"]

PLAIN_EVERY = 10.0  # seconds between lines of progress where there is no terminal


class _StandardError(RichConsole):
    """Standard error; where its reader has gone, nothing more is said, and the work goes on."""

    def on_broken_pipe(self) -> None:
        self.quiet = True


class Console:
    """A log and a progress display for ``Run``. Standard output is left to results.

    Args:
        curves: A folder for TensorBoard. None: no curves are written.
    """

    def __init__(self, *, quiet: bool = False, log_file: Path | None = None, curves: Path | None = None) -> None:
        self.quiet = quiet
        self._curves = None if curves is None else Curves(curves)
        self._error = _StandardError(stderr=True, highlight=False, soft_wrap=True, emoji=False)
        self._file: IO[str] | None = None if log_file is None else log_file.open("a", encoding="utf-8")
        self._progress: Progress | None = None
        self._task: TaskID | None = None
        self._what = ""
        self._said = self._began = time.monotonic()
        self._done = 0  # how much was done when the work was first heard of

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end_progress()
        if self._file is not None:
            self._file.close()
        if self._curves is not None:
            self._curves.close()

    def log(self, message: str, numbers: dict[str, float] | None = None) -> None:
        """A line on standard error, and in the log file with its numbers, which are drawn as curves too."""
        if self._curves is not None:
            self._curves.log(message, numbers)
        if self._file is not None:
            finite = {name: value if math.isfinite(value) else None for name, value in (numbers or {}).items()}
            line = {"time": round(time.time(), 3), "message": message, **({"numbers": finite} if finite else {})}
            self._file.write(json.dumps(line, ensure_ascii=False) + "\n")
            self._file.flush()
        self._say(message)

    def progress(self, what: str, done: int, total: int, note: str) -> None:
        """Show how far long work has come."""
        if self.quiet:
            return
        if not self._error.is_terminal:
            self._progress_in_lines(what, done, total, note)
            return
        if self._progress is None or self._what != what:
            self._end_progress()
            self._progress = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("{task.completed:,.0f}/{task.total:,.0f} {task.fields[note]}"),
                TimeRemainingColumn(),
                console=self._error,
                transient=True,
            )
            self._progress.start()
            self._task, self._what = self._progress.add_task(what, total=total, note=note), what
        if self._task is not None:
            self._progress.update(self._task, completed=done, total=total, note=note)
        if done >= total:
            self._end_progress()

    def _say(self, message: str) -> None:
        if self.quiet:
            return
        try:
            self._error.print(message, markup=False)
        except OSError:
            self.quiet = True  # standard error is full or gone: the work goes on without a listener

    def _progress_in_lines(self, what: str, done: int, total: int, note: str) -> None:
        now = time.monotonic()
        if self._what != what:
            self._what, self._began, self._done = what, now, done
        if now - self._said > PLAIN_EVERY and self._done < done < total:
            self._said = now
            left = (now - self._began) / (done - self._done) * (total - done)
            self._say(f"{what}: {done:,}/{total:,} {note}, {timedelta(seconds=round(left))} left")

    def _end_progress(self) -> None:
        if self._progress is not None:
            self._progress.stop()
        self._progress = self._task = None
        self._what = ""
