"""What the benchmarks of speed share: arguments, a peer's interpreter, what is learned from, turns, the cases kept."""

import argparse
import json
import os
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from measuring import HERE, LIBRARIES, WORK, Peer, PeerAbsent, machine, summary, told, versions
from turns import Worker

if TYPE_CHECKING:
    from foretaste.dataset import Dataset

Epochs = dict[str, list[dict[str, float]]]  # side -> its turns, the first of them to warm up


def parser(about: str, cases: Sequence[str], peer: Peer) -> argparse.ArgumentParser:
    """The arguments that all of them take."""
    found = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    found.add_argument("--only", action="append", choices=cases, help="may be repeated")
    found.add_argument("--rounds", type=_at_least_one, default=3, help="turns of each side that count")
    found.add_argument("--threads", type=int, default=2)
    found.add_argument("--precision", default="auto", choices=("auto", "fp32", "bf16"), help="of ours")
    found.add_argument(f"--{peer.name}", help=f"interpreter of an environment with {peer.name}")
    found.add_argument("--data-dir", type=Path, help="where published data lies; by default FORETASTE_DATA")
    found.add_argument("--quick", action="store_true", help="tiny simulated logs; no peer unless it is named")
    found.add_argument("--out", type=Path, help="where the JSON goes")
    return found


def interpreter(peer: Peer, given: argparse.Namespace) -> Path | str:
    """The interpreter that a peer is installed for: as named, or else its own environment.

    Raises:
        PeerAbsent: It is not to be had.
    """
    named = getattr(given, peer.name) or os.environ.get(f"FORETASTE_{peer.name.upper()}")
    if named:
        return Path(named)
    if given.quick:
        raise PeerAbsent("not asked for by --quick")
    return peer.python()


def place(name: str, given: argparse.Namespace) -> Path:
    """Where the result of a benchmark goes."""
    return given.out or (WORK / "quick" if given.quick else HERE / "results") / f"{name}.json"


def kept_cases(path: Path) -> dict[str, Any]:
    """The cases that were measured earlier."""
    return dict(json.loads(path.read_text(encoding="utf-8"))["cases"]) if path.exists() else {}


def circumstances(
    name: str,
    peer: Peer,
    given: argparse.Namespace,
    arguments: Sequence[str] | None,
    libraries: Sequence[str] = LIBRARIES,
) -> dict[str, Any]:
    """With what command, when, where and of what versions a case is measured."""
    typed = sys.argv[1:] if arguments is None else arguments
    return {
        "command": told(f"{name}.py", typed, ("--data-dir", "--out", f"--{peer.name}")),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "versions": versions(libraries),
        "quick": given.quick,
    }


def of_protocol(name: str, data_dir: Path | None) -> "Dataset":
    """What the model that is tested learns from by the data's protocol; no test event is among it."""
    from quality.rows import RETRIEVAL, SEQUENCES, names, read_rows

    from foretaste.experiment import load_data, split_data
    from foretaste.run import Run

    recipe = read_rows(name, SEQUENCES if name in names(SEQUENCES) else RETRIEVAL).recipe
    loaded = load_data(recipe.data, recipe.split.kind, data_dir, Run())
    return split_data(recipe, loaded, data_dir).final


def epochs_in_turns(name: str, workers: Mapping[str, Worker], rounds: int, counted: str) -> Epochs:
    """Epochs of all sides in turns, one more than there are rounds; ``counted`` is what a side counts in each."""
    epochs: Epochs = {who: [] for who in workers}
    for number in range(rounds + 1):
        for who, worker in workers.items():
            row = worker.ask("epoch")
            epochs[who].append(row)
            note = "" if number else " (warming up)"
            print(f"{name}: {who} {row[counted]:,} {counted} in {row['seconds']:.2f} s{note}", flush=True)
    return epochs


def ratio(epochs: Epochs, peer: Peer, counted: str) -> dict[str, Any] | None:
    """Theirs / ours in seconds per what is counted, round by round; None without the peer."""
    if peer.name not in epochs:
        return None
    each = {who: [row["seconds"] / row[counted] for row in rows[1:]] for who, rows in epochs.items()}
    rounds = [their / our for our, their in zip(each["foretaste"], each[peer.name], strict=True)]
    return {**summary(rounds), "rounds": rounds}


def _at_least_one(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1; it is {text!r}")
    return int(text)
