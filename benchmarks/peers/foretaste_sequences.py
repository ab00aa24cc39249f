"""Our side of sequence_speed.py: trains an epoch, answers, or counts what it takes, whenever a line on stdin asks."""

import json
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from foretaste.dataset import Dataset
from foretaste.memory import peak_memory
from foretaste.models import model_settings
from foretaste.query import Holdout, Queries
from foretaste.ragged import Ragged
from foretaste.recipe import validated
from foretaste.recommender import About, Model
from foretaste.run import Log, Run
from foretaste.sequential import MOST_TOKENS, SequenceSettings
from foretaste.train import precision_of
from foretaste.vocab import Vocab

MARK = "@answer "
BATCHES = 5  # of which operations and bytes are counted
SQUARE = 1024  # side of the matrices whose product gives the machine's rate
COPIED = 2**28  # bytes


class Reached(Exception):
    """The score was reached, so the rest of the epochs is of no interest."""


class Side:
    """The data, the settings, and what was fitted."""

    def __init__(self, order: dict[str, Any]) -> None:
        torch.set_num_threads(order["threads"])
        given = np.load(order["events"])
        users, items = (Vocab(np.arange(int(given[name]))) for name in ("users", "items"))
        self.data = Dataset.from_arrays(users, items, given["user"], given["item"], ordered=True)
        self.validation = [given[name] for name in ("validation_user", "validation_item") if name in given]
        plan = {"epochs": order["epochs"], "patience": None, **order.get("plan", {})}
        self.settings = validated(model_settings(order["model"]), {**order["settings"], "plan": plan}, order["model"])
        self.order, self.epochs, self.score = order, plan["epochs"], order.get("until")
        self.model: Model | None = None

    def epoch(self) -> None:
        """Fit, and answer after each epoch; the next begins when it is asked for."""

        def told(numbers: dict[str, float]) -> dict[str, float]:
            events = round(numbers["events_per_second"] * numbers["seconds"])
            return {"seconds": numbers["seconds"], "events": events}

        self.model = self.settings.fit(self.data, None, self.run(on_request(self.epochs, told)))

    def until(self) -> None:
        """Fit until the validation score is reached; the answer counts the seconds of training alone."""
        seconds, scores = [0.0], [0.0]

        def log(message: str, numbers: dict[str, float] | None = None) -> None:
            if numbers is None or "validation" not in numbers:
                return
            seconds.append(numbers["seconds"])
            scores.append(numbers["validation"])
            if scores[-1] >= self.score:
                raise Reached

        user, item = self.validation
        holdout = Holdout(Queries.of_users(self.data, user), Ragged.from_lists(item[:, None]), name="validation")
        with suppress(Reached):
            self.settings.fit(self.data, holdout, self.run(log))
        told = {"seconds": sum(seconds), "epochs": len(seconds) - 1, "best": max(scores)}
        answer(**told, reached=max(scores) >= self.score, epoch_seconds=seconds[1:])

    def recommend(self) -> None:
        model, k = self.fitted(), self.order["k"]
        known, ids = model.with_histories(self.data), self.data.users.lists()
        queries = Queries.of_users(self.data)
        begun = time.perf_counter()
        known.recommend(ids, k).frame()
        whole = time.perf_counter() - begun
        begun = time.perf_counter()
        vectors = model.query_vectors(queries)
        encoded = time.perf_counter() - begun
        known.query_vectors = lambda queries: vectors
        begun = time.perf_counter()
        known.recommend(queries, k)
        listed = time.perf_counter() - begun
        answer(all=whole, vectors=encoded, lists=listed, products=seconds_of_products(vectors, model.item_vectors()))

    def floor(self) -> None:
        """Operations and bytes per trained event, forward and back, and how many of each a second the machine does."""
        precision = precision_of(self.run())
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            flops, moved = work_per_event(self.settings, self.data)
        answer(
            flops_per_event=flops,
            flops_per_second=matrix_rate(torch.bfloat16 if precision == "bf16" else torch.float32),
            bytes_per_event=moved,
            bytes_per_second=copying_rate(),
            precision=precision,
        )

    def about(self) -> None:
        settings = self.settings.model_dump(mode="json")
        answer(peak_bytes=peak_memory(), settings=settings, parameters=self.fitted().parameters)

    def run(self, log: Any = None) -> Run:
        run = Run(device="cpu", threads=self.order["threads"], precision=self.order["precision"])
        return run if log is None else Run(run.seed, run.device, run.threads, run.precision, log=log)

    def fitted(self) -> Any:
        if self.model is None:
            raise SystemExit("nothing is fitted yet: ask for all epochs first")
        return self.model


class BytesMoved(TorchDispatchMode):
    """Sums up what operations read and write, each array once per operation; a view of an array moves nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = function(*args, **(kwargs or {}))
        given = [each for each in tree_leaves((args, kwargs)) if isinstance(each, torch.Tensor)]
        made = [each for each in tree_leaves(found) if isinstance(each, torch.Tensor)]
        places = {each.untyped_storage().data_ptr() for each in given}
        changed = function._schema.is_mutable
        if changed or any(each.untyped_storage().data_ptr() not in places for each in made):
            self.bytes += sum(each.numel() * each.element_size() for each in (*given, *made))
        return found


def work_per_event(settings: SequenceSettings, data: Dataset) -> tuple[float, float]:
    """Operations of the matrix products, and bytes read and written by all operations, of a few batches of an epoch.

    Padding is included, and so is the way back.
    """
    net = settings.net(About.of(data)).train()
    windows = settings.windows(settings.read(settings.histories(data)))
    batches = settings.batches(windows, settings.batch_tokens or MOST_TOKENS, np.random.default_rng(0))
    events = 0
    with FlopCounterMode(display=False) as counter, BytesMoved() as moved:
        for number in range(min(BATCHES, len(batches))):
            batch = batches[number]
            torch.stack(list(settings.losses(net, batch).values())).sum().backward()
            events += len(batch)
    return counter.get_total_flops() / events, moved.bytes / events


def copying_rate() -> float:
    """Bytes read and written per second by copying an array that no cache holds, the best of a few."""
    one = torch.zeros(COPIED, dtype=torch.uint8)
    other, seconds = torch.ones_like(one), []
    for _ in range(6):
        begun = time.perf_counter()
        other.copy_(one)
        seconds.append(time.perf_counter() - begun)
    return 2 * COPIED / min(seconds)


def matrix_rate(kind: torch.dtype) -> float:
    """Operations per second of a square matrix product, the best of a few."""
    one, other = (torch.randn(SQUARE, SQUARE).to(kind) for _ in range(2))
    seconds = []
    for _ in range(6):
        begun = time.perf_counter()
        one @ other
        seconds.append(time.perf_counter() - begun)
    return 2 * SQUARE**3 / min(seconds)


def seconds_of_products(queries: NDArray[np.float32], items: NDArray[np.float32]) -> float:
    """The least that exact lists can cost: every query with every item, in float32, and nothing else."""
    ours, theirs = torch.from_numpy(queries), torch.from_numpy(items).T
    seconds = []
    for _ in range(6):
        begun = time.perf_counter()
        ours @ theirs
        seconds.append(time.perf_counter() - begun)
    return min(seconds)


def on_request(epochs: int, told: Callable[[dict[str, float]], dict[str, Any]]) -> Log:
    """A log that answers after each of so many epochs; the next begins when a further line on stdin asks for it.

    Args:
        told: From the numbers of an epoch to what is answered.
    """
    done = 0

    def log(message: str, numbers: dict[str, float] | None = None) -> None:
        nonlocal done
        if numbers is None or "events_per_second" not in numbers:
            return
        done += 1
        answer(**told(numbers))
        if done < epochs:
            sys.stdin.readline()

    return log


def answer(**told: Any) -> None:
    print(MARK + json.dumps(told), flush=True)


def main() -> None:
    side = Side(json.loads(sys.stdin.readline()))
    requests = {each.__name__: each for each in (side.epoch, side.until, side.recommend, side.floor, side.about)}
    for line in sys.stdin:
        requests[line.strip()]()


if __name__ == "__main__":
    main()
