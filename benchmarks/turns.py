"""Processes that are alive together and work in turns: each is asked for one piece of work, and then waits."""

import json
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from measuring import environment

MARK = "@answer "  # before each answer, so that whatever a library prints is told from it


class Worker:
    """A child process that takes an order once, as JSON, and then answers each line with a line of JSON.

    Args:
        errors: The file for what it says on standard error.
    """

    def __init__(self, python: Path | str, script: Path, order: Mapping[str, Any], threads: int, errors: Path) -> None:
        self._name, self._errors = script.name, errors
        with errors.open("w") as said:
            self._process = subprocess.Popen(
                [str(python), "-W", "ignore", str(script)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=said,
                text=True,
                env=environment(threads, spinning=True),
            )
        self._tell(json.dumps(order))

    def ask(self, what: str) -> dict[str, Any]:
        """Do one piece of work and wait for its answer.

        Raises:
            RuntimeError: The process has ended; the end of what it said on standard error is told.
        """
        self._tell(what)
        for line in self._process.stdout or ():
            if line.startswith(MARK):
                answer: dict[str, Any] = json.loads(line.removeprefix(MARK))
                return answer
        raise self._ended(what)

    def end(self) -> None:
        """Let the process go; one that does not end by itself is killed."""
        if self._process.stdin is not None:
            with suppress(BrokenPipeError):
                self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def _tell(self, line: str) -> None:
        try:
            if self._process.stdin is not None:
                self._process.stdin.write(line + "\n")
                self._process.stdin.flush()
        except BrokenPipeError as error:
            raise self._ended(line) from error

    def _ended(self, asked: str) -> RuntimeError:
        self._process.wait()
        said = self._errors.read_text(errors="replace")[-1500:]
        return RuntimeError(f"{self._name} ended with {self._process.returncode}, asked for {asked[:40]}: {said}")
