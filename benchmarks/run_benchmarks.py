"""Run the benchmarks, print their tables and keep their raw numbers.

python benchmarks/run_benchmarks.py [--only NAME] [--quick] [--out FOLDER]

Full results go to benchmarks/results/NAME.json, those of --quick (small sizes, no peers, no network) to
benchmarks/.work/quick/NAME.json.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType

import evaluation_speed
import reference
import scale
from measuring import HERE, WORK, machine, versions, write_result

# Each module has PROTOCOL, sentences on how is measured, measure(quick=...), JSON, and tables(results), text.
BENCHMARKS: Mapping[str, ModuleType] = {
    "reference": reference,
    "evaluation_speed": evaluation_speed,
    "scale": scale,
}


def main(arguments: Sequence[str] | None = None) -> int:
    given = _parser().parse_args(arguments)
    out = given.out or (WORK / "quick" if given.quick else HERE / "results")
    # Each says for itself whether what it must hold to was held.
    held = [_run(name, out, quick=given.quick) for name in given.only or BENCHMARKS]
    return 0 if all(held) else 1


def _run(name: str, out: Path, *, quick: bool) -> bool:
    benchmark = BENCHMARKS[name]
    command = f"python benchmarks/run_benchmarks.py --only {name}{' --quick' if quick else ''}"
    print(f"== {name}{' (quick)' if quick else ''}", flush=True)
    about = {
        "benchmark": name,
        "command": command,
        "quick": quick,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "versions": versions(),
        "protocol": list(benchmark.PROTOCOL),
    }
    results = benchmark.measure(quick=quick)
    path = out / f"{name}.json"
    write_result(path, {**about, "results": results})
    print(benchmark.tables(results))
    print(f"written to {path}\n", flush=True)
    return bool(results.get("held", True))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", choices=list(BENCHMARKS), help="this benchmark; may be repeated")
    parser.add_argument("--quick", action="store_true", help="small sizes, no peers, no network")
    parser.add_argument("--out", type=Path, help="where the JSON goes")
    return parser


if __name__ == "__main__":
    sys.exit(main())
