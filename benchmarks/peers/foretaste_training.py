"""Our side of retrieval_speed.py: trains an epoch, or counts what it takes, whenever a line on stdin asks."""

import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from foretaste_sequences import BytesMoved, answer, copying_rate, matrix_rate, on_request
from torch.utils.flop_counter import FlopCounterMode

from foretaste import iterative
from foretaste.dataset import Dataset
from foretaste.memory import forget_peak, peak_memory
from foretaste.models import model_settings
from foretaste.nets.graph import MetGraph, product
from foretaste.recipe import validated
from foretaste.run import Run
from foretaste.sampling import Negatives, Unmet
from foretaste.train import precision_of
from foretaste.vocab import Vocab

COUNTED = 5  # batches of which operations and bytes are counted
REPEATED = 6  # of what is timed bare the fastest counts


class FirstBatches(Sequence[Any]):
    """The first batches of an epoch; None: all."""

    def __init__(self, batches: Sequence[Any], steps: int | None) -> None:
        self._batches, self._steps = batches, len(batches) if steps is None else min(steps, len(batches))

    def __len__(self) -> int:
        return self._steps

    def __getitem__(self, number: int) -> Any:  # type: ignore[override]
        if not 0 <= number < self._steps:
            raise IndexError(number)
        return self._batches[number]


class Side:
    """The data, the settings, and what their fit gave to the training loop."""

    net: torch.nn.Module
    losses: Callable[[Any], Mapping[str, torch.Tensor]]
    batches: Sequence[Any]  # of the last epoch, all of them

    def __init__(self, order: dict[str, Any]) -> None:
        torch.set_num_threads(order["threads"])
        given = np.load(order["events"])
        users, items = (Vocab(np.arange(int(given[name]))) for name in ("users", "items"))
        self.data = Dataset.from_arrays(users, items, given["user"], given["item"], ordered=True)
        plan = {"epochs": order["epochs"], "patience": None}
        self.settings = validated(model_settings(order["model"]), {**order["settings"], "plan": plan}, order["model"])
        self.order, self.peak_bytes = order, 0
        self.shuffling, self.drawing, self.resident_bytes = 0.0, Clock(), 0

    def epoch(self) -> None:
        """Fit, and answer after each epoch; the next begins when it is asked for."""

        def told(numbers: dict[str, float]) -> dict[str, float]:
            self.peak_bytes = max(self.peak_bytes, peak_memory())
            return {
                "seconds": numbers["seconds"] + self.shuffling,
                "pairs": round(numbers["events_per_second"] * numbers["seconds"]),
                "steps": len(FirstBatches(self.batches, self.order["steps"])),
                "steps_of_epoch": len(self.batches),
                "drawing": self.drawing.seconds,
                "shuffling": self.shuffling,
            }

        log = on_request(self.order["epochs"], told)
        run = Run(device="cpu", threads=self.order["threads"], precision=self.order["precision"], log=log)
        with self.watched(), self.drawing.over(Unmet, "draw"), self.drawing.over(Negatives, "draw", "log_odds"):
            self.settings.fit(self.data, None, run)

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Within the block the training loop gets the first batches of an epoch, and what it gets is remembered."""
        train = iterative.train

        def watched(net: Any, batches: Callable[[int], Sequence[Any]], losses: Any, *given: Any, **named: Any) -> Any:
            self.net, self.losses = net, losses

            def first(epoch: int) -> Sequence[Any]:
                if not epoch:
                    forget_peak()
                    self.resident_bytes = peak_memory()
                begun = time.perf_counter()
                self.batches = batches(epoch)
                self.shuffling, self.drawing.seconds = time.perf_counter() - begun, 0.0
                return FirstBatches(self.batches, self.order["steps"])

            return train(net, first, losses, *given, **named)

        iterative.train = watched
        try:
            yield
        finally:
            iterative.train = train

    def floor(self) -> None:
        """What a pair, or a step, cannot do without, and how much of it a second the machine does."""
        graph = getattr(self.net, "graph", None)
        if isinstance(graph, MetGraph):
            bare = seconds_of_smoothing(graph, self.net.users.detach(), self.net.items.detach())
            answer(sparse_seconds_per_step=bare[0], torch_sparse_seconds_per_step=bare[1])
            return
        precision = precision_of(Run(device="cpu", precision=self.order["precision"]))
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            flops, moved = self.work_per_pair()
        answer(
            flops_per_pair=flops,
            flops_per_second=matrix_rate(torch.bfloat16 if precision == "bf16" else torch.float32),
            gathered_bytes_per_pair=self.gathered_per_pair(),
            optimizer_bytes_per_pair=self.optimized_per_pair(),
            bytes_per_pair=moved,
            bytes_per_second=copying_rate(),
            precision=precision,
        )

    def work_per_pair(self) -> tuple[float, float]:
        """Operations of the matrix products, and bytes read and written by all operations, forward and back."""
        self.net.train()
        pairs, counted = 0, range(min(COUNTED, len(self.batches)))
        with FlopCounterMode(display=False) as counter, BytesMoved() as moved:
            for number in counted:
                batch = self.batches[number]
                torch.stack([each.float() for each in self.losses(batch).values()]).sum().backward()
                pairs += len(batch)
        return counter.get_total_flops() / pairs, moved.bytes / pairs

    def gathered_per_pair(self) -> float:
        """Bytes of the item vectors that histories read, and of the gradient that goes back to them.

        A vector is read on the way there, and its gradient read and written on the way back, in float32.
        """
        counted = [self.batches[number] for number in range(min(COUNTED, len(self.batches)))]
        read = sum(len(getattr(batch, "history", ())) for batch in counted)
        return 3 * 4 * self.settings.dim * read / sum(map(len, counted))

    def optimized_per_pair(self) -> float:
        """Bytes that AdamW reads (weight, gradient, two moments) and writes (all but the gradient) in float32."""
        return 7 * 4 * sum(each.numel() for each in self.net.parameters()) / len(self.batches[0])

    def about(self) -> None:
        answer(
            peak_bytes=self.peak_bytes,
            resident_bytes=self.resident_bytes,
            settings=self.settings.model_dump(mode="json"),
            parameters=sum(each.numel() for each in self.net.parameters()),
        )


class Clock:
    """Seconds spent in some methods."""

    def __init__(self) -> None:
        self.seconds = 0.0

    @contextmanager
    def over(self, owner: type, *names: str) -> Iterator[None]:
        """Within the block the time in these methods of a class counts; none of them may call another."""
        methods = {name: getattr(owner, name) for name in names}
        for name, method in methods.items():
            setattr(owner, name, self._timed(method))
        try:
            yield
        finally:
            for name, method in methods.items():
                setattr(owner, name, method)

    def _timed(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*given: Any, **named: Any) -> Any:
            begun = time.perf_counter()
            result = method(*given, **named)
            self.seconds += time.perf_counter() - begun
            return result

        return timed


def seconds_of_smoothing(graph: MetGraph, users: torch.Tensor, items: torch.Tensor) -> list[float]:
    """Seconds of the sparse products of a step and of nothing else, over all layers, there and back.

    By the package's own product, and by that of torch; in turns, and the fastest of each.
    """
    seconds: list[list[float]] = [[], []]
    for _ in range(REPEATED):
        for multiplied, taken in zip((product, torch.mm), seconds, strict=True):
            of_users, of_items = users, items
            begun = time.perf_counter()
            for _ in range(2 * (len(graph.weights) - 1)):
                of_users, of_items = multiplied(graph.to_users, of_items), multiplied(graph.to_items, of_users)
            taken.append(time.perf_counter() - begun)
    return [min(each) for each in seconds]


def main() -> None:
    side = Side(json.loads(sys.stdin.readline()))
    requests = {each.__name__: each for each in (side.epoch, side.floor, side.about)}
    for line in sys.stdin:
        requests[line.strip()]()


if __name__ == "__main__":
    main()
