"""Fits that are made to be killed: what the processes of test_resume.py do."""

import os
import signal
import time

import torch
from test_contract import FAST

from foretaste.dataset import Dataset
from foretaste.query import Holdout, Queries
from foretaste.ragged import Ragged
from foretaste.run import Run, silent
from foretaste.train import TrainPlan, train

EPOCHS = 16


def fit(name, data, checkpoints, log=silent):
    """The arrays of a net of the contract, whose training carries along all that it can."""
    torch.set_num_threads(1)
    plan = {"epochs": EPOCHS, "patience": None, "schedule": "cosine", "clip": 1.0, "accumulate": 2, "average": 0.9}
    settings = FAST[name].model_copy(update={"plan": FAST[name].plan.model_copy(update=plan)})
    queries = Queries.of_users(data)
    validation = Holdout(queries, Ragged.from_lists([[row % 14] for row in range(len(queries))]))

    run = Run(seed=9, device="cpu", precision="fp32", checkpoints=checkpoints, resume=True, log=log)
    return settings.fit(data, validation, run).state()


def fit_to_be_killed(name, folder, checkpoints, told, last):
    """Tell of each epoch before its checkpoint is written; at the last one wait to be killed, should nobody have."""

    def log(message, numbers=None):
        if numbers and "loss" in numbers:
            told.send(int(numbers["epoch"]))
            if numbers["epoch"] == last:
                time.sleep(600)

    fit(name, Dataset.open(folder), checkpoints, log)


class Nothing:
    """A batch."""

    def __len__(self):
        return 1

    def to(self, device):
        return self


def fit_two_epochs(checkpoints):
    """The weight and the log of the smallest fit there is."""
    torch.manual_seed(0)
    net = torch.nn.Linear(3, 1)
    log = train(
        net,
        lambda epoch: [Nothing()],
        lambda batch: {"x": net(torch.full((1, 3), 2.0)).square().sum()},
        TrainPlan(epochs=2),
        Run(device="cpu", precision="fp32", checkpoints=checkpoints, resume=True),
    )
    return net.weight.detach(), log


def die_while_saving(step, folder):
    """Be killed while the second checkpoint is written, before the so-manieth renaming or removal."""
    done = 0

    def counted(call):
        def counted_call(*arguments, **named):
            nonlocal done
            done += done > 0 or (folder / "checkpoint.json").exists()
            if done == step:
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*arguments, **named)

        return counted_call

    for name in ("replace", "rename", "unlink"):
        setattr(os, name, counted(getattr(os, name)))
    fit_two_epochs(folder)
