"""RecBole's side of retrieval_speed.py; runs in an environment of its own, and trains whenever a line on stdin asks."""

import json
import os
import sys
import time
from collections.abc import Iterator
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.model.general_recommender import LightGCN
from recbole.trainer import Trainer
from recbole.utils import init_logger, init_seed

MARK = "@answer "
NAME = "log"  # of the data, and of the folder and the files that RecBole reads it from


class FirstBatches:
    """The first batches of its loader, with a count of the pairs in them; None: all."""

    def __init__(self, loader: Any, steps: int | None) -> None:
        self.loader, self.steps, self.pairs, self.taken = loader, steps, 0, 0

    def __iter__(self) -> Iterator[Any]:
        self.pairs = self.taken = 0
        for batch in islice(iter(self.loader), self.steps):
            self.pairs, self.taken = self.pairs + len(batch), self.taken + 1
            yield batch


class Side:
    """The data as RecBole has it, its model and its trainer."""

    def __init__(self, order: dict[str, Any]) -> None:
        torch.set_num_threads(order["threads"])
        folder = Path(order["events"]).parent / "recbole"
        _write_atomic(np.load(order["events"]), folder / NAME)
        os.chdir(folder)  # where it leaves its logs
        config = Config(model="LightGCN", dataset=NAME, config_dict=_settings(order["settings"], folder))
        init_seed(config["seed"], config["reproducibility"])
        init_logger(config)
        data = data_preparation(config, create_dataset(config))[0]
        self.model = LightGCN(config, data._dataset).to(config["device"])
        self.trainer = Trainer(config, self.model)
        self.batches = FirstBatches(data, order["steps"])
        self.steps, self.epochs = len(data), 0

    def epoch(self) -> None:
        """An epoch as its ``fit`` trains one, or the first steps of one."""
        begun = time.perf_counter()
        self.trainer._train_epoch(self.batches, self.epochs)
        seconds = time.perf_counter() - begun
        self.epochs += 1
        answer(seconds=seconds, pairs=self.batches.pairs, steps=self.batches.taken, steps_of_epoch=self.steps)

    def about(self) -> None:
        names = ("recbole", "torch", "numpy", "scipy", "pandas")
        answer(
            versions={name: version(name) for name in names},
            peak_bytes=_peak_memory(),
            parameters=sum(each.numel() for each in self.model.parameters()),
        )


def _settings(chosen: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The chosen settings, and where the data lies; all else is as RecBole has it."""
    return {
        **chosen,
        "data_path": str(folder),
        "checkpoint_dir": str(folder),
        "benchmark_filename": ["train", "valid", "test"],
        "load_col": {"inter": ["user_id", "item_id"]},
        "use_gpu": False,
        "state": "WARNING",
        "show_progress": False,
    }


def _write_atomic(given: Any, folder: Path) -> None:
    """Its files of pairs; it asks for validation and test files too, which get one pair, as nothing is evaluated."""
    folder.mkdir(parents=True)
    pairs = np.stack([given["user"], given["item"]], 1)
    for part, rows in (("train", pairs), ("valid", pairs[:1]), ("test", pairs[:1])):
        path = folder / f"{NAME}.{part}.inter"
        np.savetxt(path, rows, "%d", delimiter="\t", header="user_id:token\titem_id:token", comments="")


def _peak_memory() -> int:
    """Bytes of resident memory at the peak; getrusage would count what the parent had when it made this process."""
    line = next(each for each in Path("/proc/self/status").read_text().splitlines() if each.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


def answer(**told: Any) -> None:
    print(MARK + json.dumps(told), flush=True)


def main() -> None:
    side = Side(json.loads(sys.stdin.readline()))
    requests = {each.__name__: each for each in (side.epoch, side.about)}
    for line in sys.stdin:
        requests[line.strip()]()


if __name__ == "__main__":
    main()
