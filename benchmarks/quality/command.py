"""The command line that the studies share: measure a row, or make the page of tables again."""

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path

from measuring import HERE, THREAD_SETTINGS, told

WORK = HERE.parent / "runs"
DOCS = HERE.parent / "docs"


@dataclass(frozen=True)
class Study:
    """What is measured by one script."""

    name: str
    script: str
    about: str  # the script's docstring
    rows: str = "quality.rows"  # the module that reads the rows
    measure: str = "quality.measure"  # the module that measures one

    @property
    def page(self) -> Path:
        return DOCS / f"results-{self.name}.md"

    def content(self) -> str:
        """The page; what makes it is loaded only now, after the threads are set."""
        return str(import_module(f"quality.{self.name}_page").content())


def main(study: Study, arguments: Sequence[str] | None = None) -> int:
    given = _parser(study).parse_args(arguments)
    if given.command == "table":
        study.page.write_text(study.content(), encoding="utf-8")
        print(study.page)
        return 0
    if given.threads is not None:
        # Before the libraries are loaded, which ask for it once.
        os.environ.update(dict.fromkeys(THREAD_SETTINGS, str(given.threads)))
    from foretaste.errors import ForetasteError

    try:
        print(_run(study, given, told(study.script, sys.argv[1:] if arguments is None else arguments)))
    except ForetasteError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _run(study: Study, given: argparse.Namespace, command: str) -> Path:
    from foretaste.console import Console
    from foretaste.run import Run

    rows = import_module(study.rows).read_rows(given.data, study.name)
    rows.settings(given.row)  # an unknown row leaves no folder behind
    work = WORK / study.name / given.data / f"{given.row}-seed{given.seed}"
    work.mkdir(parents=True, exist_ok=True)
    with Console(log_file=work / "log.jsonl") as console:
        run = Run(given.seed, given.device, given.threads, given.precision, log=console.log)
        run = replace(run, progress=console.progress, resume=given.resume)
        return Path(import_module(study.measure).measured(rows, given.row, run, given.data_dir, work, command))


def _parser(study: Study) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=study.about, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="measure one row with one seed")
    run.add_argument("row", help=f"a row of benchmarks/quality/{study.name}/DATA.yaml")
    run.add_argument("data", help="a data set that has rows there")
    run.add_argument("--seed", type=int, default=0)
    run.add_argument("--threads", type=int)
    run.add_argument("--device", default="auto")
    run.add_argument("--precision", default="auto", choices=("auto", "fp32", "bf16", "fp16"))
    run.add_argument("--data-dir", type=Path, help="where published data lies; by default FORETASTE_DATA")
    run.add_argument("--resume", action="store_true", help="go on where a killed run stopped")
    commands.add_parser("table", help="make the page again from the results that are kept")
    return parser
