"""Measure sequence models, one row on one data set with one seed at a time, and make the page of tables from it.

python benchmarks/sequence_quality.py run ROW DATA [--seed N] [--threads T] [--data-dir DIR] [--resume]
python benchmarks/sequence_quality.py table

The rows stand in benchmarks/quality/DATA.yaml. A run leaves benchmarks/results/sequences/DATA/ROW-seedN.json, and under
runs/sequences/ the model, a log, and while it lasts what it needs to be gone on with. The page is
docs/results-sequences.md.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from measuring import HERE, THREAD_SETTINGS, told

WORK = HERE.parent / "runs" / "sequences"


def main(arguments: Sequence[str] | None = None) -> int:
    given = _parser().parse_args(arguments)
    if given.command == "table":
        from quality.page import write_page

        print(write_page())
        return 0
    if given.threads is not None:
        # Before the libraries are loaded, which ask for it once.
        os.environ.update(dict.fromkeys(THREAD_SETTINGS, str(given.threads)))
    from foretaste.errors import ForetasteError

    try:
        print(_run(given, told("sequence_quality.py", sys.argv[1:] if arguments is None else arguments)))
    except ForetasteError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _run(given: argparse.Namespace, command: str) -> Path:
    from quality.measure import measured
    from quality.rows import read_rows

    from foretaste.console import Console
    from foretaste.run import Run

    rows = read_rows(given.data)
    rows.settings(given.row)  # an unknown row leaves no folder behind
    work = WORK / given.data / f"{given.row}-seed{given.seed}"
    work.mkdir(parents=True, exist_ok=True)
    with Console(log_file=work / "log.jsonl") as console:
        run = Run(given.seed, given.device, given.threads, given.precision, log=console.log)
        run = replace(run, progress=console.progress, resume=given.resume)
        return measured(rows, given.row, run, given.data_dir, work, command)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="measure one row with one seed")
    run.add_argument("row", help="a row of benchmarks/quality/DATA.yaml")
    run.add_argument("data", help="a data set that has rows, such as ml-1m-sasrec")
    run.add_argument("--seed", type=int, default=0)
    run.add_argument("--threads", type=int)
    run.add_argument("--device", default="auto")
    run.add_argument("--precision", default="auto", choices=("auto", "fp32", "bf16", "fp16"))
    run.add_argument("--data-dir", type=Path, help="where published data lies; by default FORETASTE_DATA")
    run.add_argument("--resume", action="store_true", help="go on where a killed run stopped")
    commands.add_parser("table", help="make the page again from the results that are kept")
    return parser


if __name__ == "__main__":
    sys.exit(main())
