"""Killed at any moment and resumed, a fit ends with the weights, to the bit, of one that was never interrupted."""

import json
import multiprocessing
import random
import signal
import time

import numpy as np
import pytest
import resuming
import torch
from test_contract import FAST

NETS = [name for name, settings in FAST.items() if hasattr(settings, "plan")]


@pytest.fixture(scope="module")
def processes():
    """Processes that need not load torch again: forked from one that has loaded it and does nothing else."""
    context = multiprocessing.get_context("forkserver")
    loaded_by_the_first_step = "torch._dynamo"
    context.set_forkserver_preload(["foretaste.models", "foretaste.train", "pytest", loaded_by_the_first_step])
    return context


def killed(processes, name, data, folder, after, moment):
    """Fit in another process, and kill it so many epochs' time after it has told of an epoch."""
    told, tell = processes.Pipe(duplex=False)
    process = processes.Process(target=resuming.fit_to_be_killed, args=(name, data, folder, tell, after + 3))
    process.start()
    tell.close()
    began = time.perf_counter()
    while told.recv() < after:
        began = time.perf_counter()
    time.sleep(moment * (time.perf_counter() - began))
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL


@pytest.mark.parametrize("name", NETS)
def test_killed_twice_and_resumed_it_is_as_if_nothing_had_been(name, processes, shop, tmp_path):
    shop.save(tmp_path / "data")
    folder = tmp_path / "checkpoints"
    draw = random.Random()  # another moment each time: nothing may depend on it
    for first, last in ((2, 4), (6, 8)):
        after = draw.randint(first, last)
        killed(processes, name, tmp_path / "data", folder, after, moment=draw.uniform(0, 2))
        assert after - 1 <= json.loads((folder / "checkpoint.json").read_text())["epochs_done"] < resuming.EPOCHS
    resumed, whole = resuming.fit(name, shop, folder), resuming.fit(name, shop, None)
    assert resumed.keys() == whole.keys()
    for part, array in whole.items():
        assert np.array_equal(resumed[part], array), part


@pytest.mark.parametrize("step", range(1, 7))
def test_killed_while_a_checkpoint_is_written_the_old_or_the_new_one_is_there(step, processes, tmp_path):
    """Its steps: the weights get their name (1, 2), so does the index (3, 4), the weights of before are removed (5)."""
    process = processes.Process(target=resuming.die_while_saving, args=(step, tmp_path / "c"))
    process.start()
    process.join()
    assert process.exitcode == (-signal.SIGKILL if step < 6 else 0)
    kept = json.loads((tmp_path / "c/checkpoint.json").read_text())
    assert kept["epochs_done"] == (1 if step < 4 else 2)
    assert (tmp_path / "c" / kept["file"]).exists()
    resumed, log = resuming.fit_two_epochs(tmp_path / "c")
    assert torch.equal(resumed, resuming.fit_two_epochs(None)[0])
    assert len(log.curve) == 2
    if step < 4:  # the next checkpoint has removed what was cut off
        assert {path.name for path in (tmp_path / "c").iterdir()} == {"checkpoint.json", "epoch-2.safetensors"}
