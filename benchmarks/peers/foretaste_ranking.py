"""Our side of ranking_speed.py: trains an epoch of the ranker, or answers, whenever a line on stdin asks."""

import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import torch
from foretaste_sequences import answer, matrix_rate, on_request
from torch.utils.flop_counter import FlopCounterMode

from foretaste.rank.dcnv2 import DCNv2
from foretaste.run import Run
from foretaste.train import precision_of

sys.path.insert(0, str(Path(__file__).parents[1]))  # the scripts there import each other by name
from quality.click_data import clicks_of

REPEATED = 3  # of what is timed bare the median counts
COUNTED = 4096  # rows whose operations are


class Side:
    """The rows, the settings, and once an epoch was asked for the ranker that they made."""

    def __init__(self, order: dict[str, Any]) -> None:
        torch.set_num_threads(order["threads"])
        self.run = Run(device="cpu", threads=order["threads"], precision=order["precision"])
        clicks = clicks_of(order["rows"], Path(order["data_dir"]), self.run)
        self.parts = {name: clicks.examples(name) for name in ("train", "test")}
        plan = {"epochs": order["epochs"], "patience": None}
        self.settings = DCNv2(**{**order["settings"], "plan": plan})
        self.epochs = order["epochs"]

    def epoch(self) -> None:
        """Fit, and answer after each epoch; the next begins when it is asked for."""
        rows = len(self.parts["train"])
        log = on_request(self.epochs, lambda numbers: {"seconds": numbers["seconds"], "rows": rows})
        run = Run(device="cpu", threads=self.run.threads, precision=self.run.precision, log=log)
        self.model = self.settings.fit(self.parts["train"], run=run)

    def chances(self) -> None:
        """The whole test part: from tensors that lie ready, as theirs do, and from the table as well."""
        inputs = self.model.inputs(self.parts["test"])
        ready, whole = [], []
        for _ in range(REPEATED):
            begun = time.perf_counter()
            self.model.chances(inputs)
            ready.append(time.perf_counter() - begun)
            begun = time.perf_counter()
            self.model.predict(self.parts["test"])
            whole.append(time.perf_counter() - begun)
        answer(
            seconds=statistics.median(ready),
            with_reading=statistics.median(whole),
            rows=len(self.parts["test"]),
            precision=precision_of(self.run),
            parameters=self.model.parameters,
        )

    def floor(self) -> None:
        """Operations of the matrix products of a row, learned and answered, and how many a second the machine does."""
        rows = torch.arange(COUNTED)
        batch, net = self.model.inputs(self.parts["test"]).batch(rows), self.model.net
        with FlopCounterMode(display=False) as answering, torch.no_grad():
            net.eval()(batch)
        with FlopCounterMode(display=False) as training:
            net.train()(batch).sum().backward()
        answer(
            training=training.get_total_flops() / COUNTED,
            answering=answering.get_total_flops() / COUNTED,
            flops_per_second=matrix_rate(torch.bfloat16 if precision_of(self.run) == "bf16" else torch.float32),
            precision=precision_of(self.run),
        )


def main() -> None:
    side = Side(json.loads(sys.stdin.readline()))
    requests = {each.__name__: each for each in (side.epoch, side.chances, side.floor)}
    for line in sys.stdin:
        requests[line.strip()]()


if __name__ == "__main__":
    main()
