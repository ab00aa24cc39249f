"""The command line from outside: called in this process, or in one of its own; and a tiny shop to call it on."""

import contextlib
import io
import json
import os
import random
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from foretaste.cli import main

HOUR = 3600
START = 1_700_000_000  # seconds
RECIPE = """
data:
  shop: {users: 60, items: 64, events: 900, categories: 4}
split: {kind: leave_one_out}
models:
  ease: {l2: 50.0}
evaluation: {k: [5, 10]}
"""


@dataclass(frozen=True)
class Ended:
    """How a call of the command line ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def complaint(self) -> str:
        """The one line that says what is wrong."""
        (line,) = [each for each in self.err.splitlines() if each.startswith("error: ")]
        assert self.err.rstrip().endswith(line), "the error stands last"
        assert "Traceback" not in self.err
        return line.removeprefix("error: ")

    @property
    def items(self) -> list[Any]:
        """What was recommended, as --json printed it."""
        return [row["item_id"] for row in self.json]


def call(*arguments: object, stdin: str = "") -> Ended:
    out, err, before = io.StringIO(), io.StringIO(), sys.stdin
    sys.stdin = io.StringIO(stdin)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = main([str(each) for each in arguments])
    finally:
        sys.stdin = before
    return Ended(code, out.getvalue(), err.getvalue())


@pytest.fixture(scope="session")
def foretaste() -> Callable[..., Ended]:
    """The command line, called in this process."""
    return call


@pytest.fixture(scope="session")
def process() -> Callable[..., subprocess.Popen[str]]:
    """The command line in a process of its own, with pipes to its standard output and error."""

    def start(*arguments: object, cwd: Path, **options: Any) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "foretaste.cli", *map(str, arguments)]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
        return subprocess.Popen(command, cwd=cwd, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}, **pipes)

    return start


def shop_lines(number: bool, events: int = 240) -> str:
    """A log of 12 users and 16 items with odd column names; ids are integers, or text with zeros in front."""
    draw = random.Random(3)
    lines = []
    for place in range(events):
        user, item = draw.randrange(1, 13), 100 + min(draw.randrange(16), draw.randrange(16))
        ids = f"{user},{item}" if number else f"{user:03},sku-{item}"
        kind = draw.choice(["view", "view", "view", "cart", "buy"])
        lines.append(f"{ids},{START + place * HOUR},{kind},{draw.randrange(1, 6)}\n")
    return "who,what,when,behavior,stars\n" + "".join(lines)


COLUMNS = ("--user-col", "who", "--item-col", "what", "--time-col", "when", "--value-col", "stars")


@pytest.fixture(scope="session")
def shop_log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A log with text ids; its columns must be named: COLUMNS."""
    path = tmp_path_factory.mktemp("log") / "shop.csv"
    path.write_text(shop_lines(number=False))
    return path


@pytest.fixture(scope="session")
def columns() -> tuple[str, ...]:
    return COLUMNS


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory, shop_log: Path) -> Path:
    """An itemknn of the shop with text ids."""
    return _trained(tmp_path_factory, shop_log)


@pytest.fixture(scope="session")
def number_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An itemknn of the shop with integer ids."""
    path = tmp_path_factory.mktemp("log") / "numbers.csv"
    path.write_text(shop_lines(number=True))
    return _trained(tmp_path_factory, path)


def _trained(tmp_path_factory: pytest.TempPathFactory, log: Path) -> Path:
    folder = tmp_path_factory.mktemp("bundles") / "itemknn"
    ended = call("train", log, "--model", "itemknn", "--out", folder, *COLUMNS)
    assert ended.code == 0, ended.err
    return folder


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """A recipe that takes a second."""
    path = tmp_path / "tiny.yaml"
    path.write_text(RECIPE)
    return path
