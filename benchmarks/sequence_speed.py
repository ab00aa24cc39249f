"""Training and answering speed of sequence models beside RecTools', epoch by epoch in turns, counted by trained event.

python benchmarks/sequence_speed.py [--only CASE] [--rounds 3] [--threads 2] [--rectools PYTHON]
python benchmarks/sequence_speed.py --only "sasrec ml-1m" --time-to 0.15 [--patience 10]
python benchmarks/sequence_speed.py --only "sasrec ml-1m" --answers

RecTools runs in an environment of its own: the interpreter named by --rectools or FORETASTE_RECTOOLS, else one that is
made in benchmarks/.venvs. The result goes to benchmarks/results/sequence_speed.json, case by case: a case that is
measured again takes the place of the old one. --quick measures tiny simulated logs, for trying the script out.
"""

import argparse
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import speed
from evaluation_speed import RECTOOLS
from measuring import HERE, PeerAbsent, own_python, scratch, summary, write_result
from sequence_speed_tables import text
from turns import Worker

if TYPE_CHECKING:
    from foretaste.dataset import Dataset
    from foretaste.query import Holdout

NAME = "sequence_speed"
K = 10
OURS, THEIRS = HERE / "peers" / "foretaste_sequences.py", HERE / "peers" / "rectools_sequences.py"
SASREC = {"dim": 128, "heads": 2, "layers": 2, "length": 200, "dropout": 0.2, "loss": "softmax"}
THEIR_SASREC = {"n_factors": 128, "n_heads": 2, "n_blocks": 2, "session_max_len": 200, "dropout_rate": 0.2}
MASKED = 0.15  # share of the events that is hidden, RecTools' own default
TIME_TO_PLAN = {"lr": 0.002, "schedule": "cosine", "warmup_steps": 200, "floor": 0.05, "epochs": 30}

PROTOCOL = (
    "Both sides read the same file: what may be learned from by the data's protocol (benchmarks/quality). RecTools "
    "keeps the last events of each user only, as many as it reads; ours cuts long histories into windows and trains on "
    "every event.",
    "Two processes, one per side, are alive together and train an epoch each in turns: ours, theirs, ours, theirs; the "
    "one that waits computes nothing. The first epoch of each warms up and does not count. Both have the same number "
    "of threads (OMP, MKL, OpenBLAS, torch), which wait for each other in the libraries' own way: the numbers want a "
    "machine with nothing else to do.",
    "An event is trained where the loss counts it: targets that are not padding, counted in the batches of each side. "
    "Seconds are of the epoch alone, by our training log and by Lightning's hooks, without preparing the data. Medians "
    "over rounds; the ratio is theirs / ours in seconds per trained event, round by round, so above 1 we are faster.",
    "Of a masked model only hidden events are trained; both sides hide the same share of what they read.",
    "Ours computes in the precision of the machine (bf16 where it has it), theirs in its default, float32, unless the "
    "command says otherwise. Peak memory is that of each process (VmHWM), libraries and data included.",
    "recommend: everybody in the file, k = 10, seen items hidden. 'all' is from ids to a table with outside ids, "
    "'vectors' the encoding of the histories, 'lists' from vectors to the indices and scores of the lists, "
    "'products' that of the vectors of all people with those of all items, in float32 and nothing else.",
    "Arithmetic floor: the matrix products of our own batches, padding included, forward and back, counted per trained "
    "event, over the rate of a square matrix product in the same precision with the same threads. Memory floor: what "
    "all operations of these batches read and write, each array once per operation as if no cache kept it, "
    "over the rate at which a large array is copied.",
    "Nothing is measured on a GPU: none was to be had. To reach there: ml-1m-sasrec to convergence within 60 s, "
    "GRU4Rec 250,000 events/s.",
)


@dataclass(frozen=True)
class Case:
    """One model on one data set, on both sides."""

    name: str
    data: str  # of benchmarks/quality
    model: str
    settings: Mapping[str, Any]
    peer: Mapping[str, Any] | None  # class and settings of RecTools; None: ours alone
    reach: float | None = None  # theirs / ours per trained event
    least: float | None = None  # trained events per second of ours
    answers: bool = False  # whether recommend is measured too


CASES = (
    Case(
        "sasrec ml-1m",
        "ml-1m-sasrec",
        "sasrec",
        SASREC,
        {"class": "SASRecModel", **THEIR_SASREC},
        reach=8.0,
        answers=True,
    ),
    Case(
        "bert4rec ml-1m",
        "ml-1m-sasrec",
        "bert4rec",
        {**SASREC, "mask_rate": MASKED, "last_share": 0.0},
        {"class": "BERT4RecModel", **THEIR_SASREC, "mask_prob": MASKED},
        reach=5.0,
    ),
    Case(
        "sasrec beauty",
        "amazon14-beauty",
        "sasrec",
        {**SASREC, "dim": 64, "length": 50},
        {"class": "SASRecModel", **THEIR_SASREC, "n_factors": 64, "session_max_len": 50},
        reach=40.0,
    ),
    Case(
        "gru4rec retailrocket",
        "retailrocket-sessions",
        "gru4rec",
        {"dim": 100, "layers": 1, "loss": "sampled_softmax", "negatives": 2048, "batch_tokens": 8192},
        None,
        least=60_000,
    ),
)
SMALL = {"dim": 16, "length": 20}
THEIR_SMALL = {"n_factors": 16, "session_max_len": 20}


def main(arguments: Sequence[str] | None = None) -> int:
    given = _parser().parse_args(arguments)
    out = speed.place(NAME, given)
    kept = speed.kept_cases(out)
    for case in CASES:
        if given.only is not None and case.name not in given.only:
            continue
        about = speed.circumstances(NAME, RECTOOLS, given, arguments)
        case = _smaller(case) if given.quick else case
        if given.answers and case.answers and "training" in kept.get(case.name, {}):
            kept[case.name] |= {**answers_alone(case, given), "answers_about": about}
        elif given.time_to is None:
            earlier = {"time_to": kept[case.name]["time_to"]} if "time_to" in kept.get(case.name, {}) else {}
            kept[case.name] = {**about, **measured(case, given), **earlier}
        elif case.peer is not None:
            kept[case.name] = {**kept.get(case.name, {}), "time_to": {**about, **timed_to(case, given)}}
        write_result(out, {"benchmark": NAME, "protocol": list(PROTOCOL), "cases": kept})
        if "training" in kept.get(case.name, {}):
            print(text(case.name, kept[case.name]), flush=True)
    print(f"written to {out}")
    return 0


def measured(case: Case, given: argparse.Namespace) -> dict[str, Any]:
    """All rounds of a case on both sides; ``absent`` says why a side has no numbers."""
    found = {"model": case.model, "settings": dict(case.settings), "peer": case.peer, "threads": given.threads}
    found |= {"reach": case.reach, "least_events_per_second": case.least, "absent": {}}
    with scratch(NAME) as folder:
        events, data = folder / "events.npz", _data(case, given.data_dir, quick=given.quick)
        _write_events(data, events)
        found["data"] = {"name": data.name, "fingerprint": data.fingerprint, **data.counts()}
        orders = _orders(case, events, given)
        for who, why in _absent(case, given).items():
            found["absent"][who] = why
            orders.pop(who, None)
        if "foretaste" not in orders:
            return found
        found |= _in_turns(case, orders, given)
    return found


def answers_alone(case: Case, given: argparse.Namespace) -> dict[str, Any]:
    """The answers after a single epoch of training on each side; how well it was trained changes nothing."""
    with scratch(NAME) as folder:
        events = folder / "events.npz"
        _write_events(_data(case, given.data_dir, quick=given.quick), events)
        orders = _orders(case, events, given)
        orders["foretaste"]["epochs"] = 1
        workers = {who: _worker(who, order, given) for who, order in orders.items()}
        try:
            for worker in workers.values():
                worker.ask("epoch")
            answers = _answered(workers, given.rounds)
        finally:
            for worker in workers.values():
                worker.end()
    return {"answers": {who: _answers(rows[1:]) for who, rows in answers.items()}}


def _answered(workers: Mapping[str, Worker], rounds: int) -> dict[str, list[dict[str, float]]]:
    """The stages of answering everybody, in turns; the first round warms up."""
    answers: dict[str, list[dict[str, float]]] = {who: [] for who in workers}
    for _ in range(rounds + 1):
        for who, worker in workers.items():
            answers[who].append(worker.ask("recommend"))
    return answers


def timed_to(case: Case, given: argparse.Namespace) -> dict[str, Any]:
    """Seconds of training up to a validation score, one side after the other; what validating takes does not count.

    Validated on is the last event of each user of what may be learned from, which is then withheld from training. The
    peer is given up when it has trained ``--patience`` times as long as we did.
    """
    from foretaste.split import leave_one_out

    found: dict[str, Any] = {"validation_ndcg@10": given.time_to, "patience": given.patience, "threads": given.threads}
    with scratch(NAME) as folder:
        events = folder / "events.npz"
        inner = leave_one_out(_data(case, given.data_dir, quick=given.quick), validation_users=0)
        _write_events(inner.train, events, inner.test)
        most_seconds = None
        for who, order in _orders(case, events, given).items():
            limits = {"until": given.time_to, "most_seconds": most_seconds, "plan": TIME_TO_PLAN}
            worker = _worker(who, {**order, **limits}, given)
            try:
                found[who] = worker.ask("until")
            finally:
                worker.end()
            print(f"{case.name}, {who}: {found[who]}", flush=True)
            most_seconds = given.patience * found[who]["seconds"]
    return found


def _in_turns(case: Case, orders: Mapping[str, Mapping[str, Any]], given: argparse.Namespace) -> dict[str, Any]:
    workers = {who: _worker(who, order, given) for who, order in orders.items()}
    try:
        epochs = speed.epochs_in_turns(case.name, workers, given.rounds, "events")
        answers = _answered(workers, given.rounds) if case.answers else {}
        about = {who: worker.ask("about") for who, worker in workers.items()}
        floor = workers["foretaste"].ask("floor")  # last, as it takes memory of its own
    finally:
        for worker in workers.values():
            worker.end()
    return {
        "about": about,
        "floor": floor,
        "training": {who: _summed_up(rows[1:]) for who, rows in epochs.items()},
        "answers": {who: _answers(rows[1:]) for who, rows in answers.items() if rows},
        "ratio": speed.ratio(epochs, RECTOOLS, "events"),
        "raw": {"epochs": epochs, "answers": answers},
    }


def _summed_up(rows: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    return {
        "events_per_epoch": statistics.median(row["events"] for row in rows),
        "events_per_second": summary([row["events"] / row["seconds"] for row in rows]),
        "seconds_per_million_events": summary([1e6 * row["seconds"] / row["events"] for row in rows]),
    }


def _answers(rows: Sequence[Mapping[str, float]]) -> dict[str, dict[str, float]]:
    return {stage: summary([row[stage] for row in rows]) for stage in rows[0]}


def _orders(case: Case, events: Path, given: argparse.Namespace) -> dict[str, dict[str, Any]]:
    shared = {"events": str(events), "threads": given.threads, "k": K}
    ours = {**shared, "model": case.model, "settings": dict(case.settings)}
    ours |= {"precision": given.precision, "epochs": given.rounds + 1}
    orders = {"foretaste": ours}
    if case.peer is not None:
        orders["rectools"] = {**shared, "settings": dict(case.peer), "precision": given.peer_precision}
    return orders


def _absent(case: Case, given: argparse.Namespace) -> dict[str, str]:
    """Side -> why it takes no part."""
    from foretaste.models import MODELS

    absent = {}
    if case.model not in MODELS:
        absent["foretaste"] = f"there is no model {case.model}"
    if case.peer is not None:
        try:
            speed.interpreter(RECTOOLS, given)
        except PeerAbsent as error:
            absent["rectools"] = str(error)
    return absent


def _worker(who: str, order: Mapping[str, Any], given: argparse.Namespace) -> Worker:
    python, script = (own_python(), OURS) if who == "foretaste" else (speed.interpreter(RECTOOLS, given), THEIRS)
    return Worker(python, script, order, given.threads, Path(order["events"]).with_name(f"{who}.log"))


def _data(case: Case, data_dir: Path | None, *, quick: bool) -> "Dataset":
    """What the model that is tested learns from by the data's protocol; no test event is among it."""
    import numpy as np

    from foretaste.dataset import Dataset
    from foretaste.vocab import Vocab

    if quick:
        rng = np.random.default_rng(20_260_102)
        user = np.sort(np.concatenate([np.arange(80), rng.integers(0, 80, 1_200)]))
        item = (60 * rng.random(len(user)) ** 2).astype(np.int64)
        return Dataset.from_arrays(Vocab(np.arange(80)), Vocab(np.arange(60)), user, item, ordered=True, name="quick")
    return speed.of_protocol(case.data, data_dir)


def _write_events(data: "Dataset", path: Path, held: "Holdout | None" = None) -> None:
    """The events in order, and, where there are any, the users who are validated on with the event of each."""
    import numpy as np

    beside = {} if held is None else {"validation_user": held.queries.user, "validation_item": held.targets.values}
    np.savez(path, user=data.user, item=data.item, users=len(data.users), items=len(data.items), **beside)


def _smaller(case: Case) -> Case:
    small = {**case.settings, **{name: value for name, value in SMALL.items() if name in case.settings}}
    return replace(case, settings=small, peer=None if case.peer is None else {**case.peer, **THEIR_SMALL})


def _parser() -> argparse.ArgumentParser:
    parser = speed.parser(str(__doc__), [case.name for case in CASES], RECTOOLS)
    parser.add_argument("--peer-precision", default="32-true", choices=("32-true", "bf16-mixed"))
    parser.add_argument(
        "--time-to", type=float, help="only train up to this validation ndcg@10, once; the other numbers stay"
    )
    parser.add_argument("--answers", action="store_true", help="only time answers again; the other numbers stay")
    parser.add_argument(
        "--patience", type=float, default=10.0, help="times our seconds, after which the peer is given up"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
