"""The training loop: equal to optimiser steps written by hand, and to itself after being killed."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState, PartialState
from pydantic import ValidationError
from torch import nn

from foretaste.dataset import Dataset
from foretaste.errors import BundleError, ConfigError, ForetasteError, TrainingDiverged
from foretaste.models import SASRec, sasrec
from foretaste.run import Run
from foretaste.train import TrainLog, TrainPlan, device_of, precision_of, train
from foretaste.vocab import Vocab

RUN = Run(seed=1, device="cpu", precision="fp32")


@dataclass
class Points:
    """Some points of a line, with noise."""

    x: torch.Tensor
    y: torch.Tensor

    def __len__(self) -> int:
        return len(self.x)

    def to(self, device: torch.device) -> "Points":
        return self


def seven_batches(epoch: int) -> list[Points]:
    random = torch.Generator().manual_seed(100 + epoch)
    x = torch.randn(7, 5, 3, generator=random)
    return [Points(each, each @ torch.tensor([1.0, -2.0, 3.0]) + number) for number, each in enumerate(x)]


def small_net(*, dropout: float = 0.0) -> nn.Module:
    torch.manual_seed(5)
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Dropout(dropout), nn.Linear(4, 1))


def squares(net, batch):
    return (net(batch.x)[:, 0] - batch.y).square().mean()


def fit(plan, *, net=None, loss=None, run=RUN, **more) -> tuple[nn.Module, TrainLog]:
    net = net or small_net()
    losses = loss or (lambda batch: {"squares": squares(net, batch)})
    return net, train(net, seven_batches, losses, plan, run, **more)


def weights(net) -> torch.Tensor:
    return torch.cat([each.detach().flatten().clone() for each in net.parameters()])


@pytest.mark.parametrize("accumulate", [1, 2, 5, 7])
@pytest.mark.parametrize("clip", [None, 0.5, 3.0])
def test_training_is_the_optimiser_steps_that_one_would_write(accumulate, clip):
    plan = TrainPlan(epochs=3, lr=0.05, weight_decay=0.1, accumulate=accumulate, clip=clip)
    trained, _ = fit(plan)
    net = small_net()
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.05, betas=(0.9, 0.98), weight_decay=0.1)
    for epoch in range(3):
        batches = seven_batches(epoch)
        for start in range(0, 7, accumulate):
            group = batches[start : start + accumulate]
            optimizer.zero_grad()
            torch.stack([squares(net, batch) for batch in group]).mean().backward()
            if clip is not None:
                nn.utils.clip_grad_norm_(net.parameters(), clip)
            optimizer.step()
    torch.testing.assert_close(weights(trained), weights(net), rtol=1e-5, atol=1e-6)


def test_each_batch_counts_the_same_in_the_reported_loss():
    net = small_net()
    before = torch.stack([squares(net, batch) for batch in seven_batches(0)]).mean().item()
    _, log = fit(TrainPlan(epochs=1, lr=1e-12, accumulate=5), net=net)
    assert log.curve[0]["loss"] == pytest.approx(before, rel=1e-5)
    assert log.curve[0]["epoch"] == 1
    assert log.curve[0]["events_per_second"] > 0


def test_several_named_losses_add_up_and_are_reported_by_name():
    plan = TrainPlan(epochs=2, lr=0.05, accumulate=2)
    together = small_net()
    _, log = fit(
        plan,
        net=together,
        loss=lambda batch: {"near": 0.25 * squares(together, batch), "far": 0.75 * squares(together, batch)},
    )
    alone, one = fit(plan)
    torch.testing.assert_close(weights(together), weights(alone))
    for row, expected in zip(log.curve, one.curve, strict=True):
        assert row["loss"] == pytest.approx(expected["loss"])
        assert row["loss near"] == pytest.approx(0.25 * expected["loss"])
        assert row["loss far"] == pytest.approx(0.75 * expected["loss"])
    assert "loss squares" not in one.curve[0]


def test_the_net_learns_in_train_mode_is_judged_in_eval_mode_and_left_in_it():
    net, modes = small_net(dropout=0.5), []

    def loss(batch):
        modes.append(("loss", net.training))
        return {"squares": squares(net, batch)}

    def validate():
        modes.append(("validate", net.training))
        assert not torch.is_grad_enabled()
        net.train(False)
        return 1.0

    net.eval()
    fit(TrainPlan(epochs=2), net=net, loss=loss, validate=validate)
    assert modes == ([("loss", True)] * 7 + [("validate", False)]) * 2
    assert not net.training


def judged(scores, **plan):
    """Train with validation scores that are written down; the net, its log, and the weights after each validation."""
    net, after, given = small_net(), [], iter(scores)

    def validate():
        after.append(weights(net))
        return next(given)

    _, log = fit(TrainPlan(lr=0.05, **plan), net=net, validate=validate)
    return net, log, after


def test_the_best_weights_are_kept_not_the_last():
    net, log, after = judged([0.1, 0.5, 0.3, 0.5, 0.2], epochs=5)
    assert torch.equal(weights(net), after[1])  # the earlier of two equals
    assert not torch.equal(after[1], after[4])
    assert (log.best_epoch, log.best_score, log.stopped_early) == (2, 0.5, False)
    assert [row["validation"] for row in log.curve] == [0.1, 0.5, 0.3, 0.5, 0.2]


def test_without_validation_the_last_weights_are_kept():
    net, log = fit(TrainPlan(epochs=3, lr=0.05))
    assert (log.best_epoch, log.best_score) == (3, None)
    assert not torch.equal(weights(net), weights(fit(TrainPlan(epochs=2, lr=0.05))[0]))


@pytest.mark.parametrize(
    ("scores", "plan", "epochs", "best"),
    [
        ([3, 1, 2, 9], {"epochs": 8, "patience": 2}, 3, 1),
        ([1, 2, 1, 3, 1, 1], {"epochs": 8, "patience": 2}, 6, 4),
        ([1, 2, 1, 3, 1, 1], {"epochs": 6, "patience": 2}, 6, 4),  # out of patience, but also at the end
        ([3, 1, 1, 1, 1, 1, 1, 1], {"epochs": 8, "patience": None}, 8, 1),
        ([3, 1, 9], {"epochs": 8, "patience": 1, "validate_every": 2}, 4, 2),
        ([3, 4, 5], {"epochs": 8, "patience": 1, "validate_every": 3}, 8, 8),  # epochs 3, 6 and the last
    ],
)
def test_training_stops_when_validation_has_not_improved(scores, plan, epochs, best):
    _, log, after = judged(scores, **plan)
    assert (len(log.curve), log.best_epoch) == (epochs, best)
    assert log.stopped_early == (epochs < plan["epochs"])
    assert len(after) == len([row for row in log.curve if "validation" in row])


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_ends_training_with_advice(bad):
    net = small_net()
    with pytest.raises(TrainingDiverged, match=r"toy: the loss became (nan|inf) in epoch 1\. Lower lr \(now 0\.001\)"):
        fit(TrainPlan(epochs=2), net=net, loss=lambda batch: {"x": squares(net, batch) * bad}, name="toy")


class Recorded(torch.optim.AdamW):
    """AdamW that remembers its rates."""

    def __init__(self, *arguments, **named):
        super().__init__(*arguments, **named)
        self.rates = RATES

    def step(self, closure=None):
        self.rates.append(self.param_groups[0]["lr"])
        return super().step(closure)


RATES: list[float] = []


def rates(monkeypatch, **plan):
    RATES.clear()
    monkeypatch.setattr(torch.optim, "AdamW", Recorded)
    fit(TrainPlan(lr=2.0, **plan))
    return list(RATES)


def test_the_rate_is_constant_unless_asked_otherwise(monkeypatch):
    assert rates(monkeypatch, epochs=2) == [2.0] * 14


def test_warm_up_rises_in_a_line(monkeypatch):
    assert rates(monkeypatch, epochs=1, warmup_steps=4) == [0.5, 1.0, 1.5, 2.0, 2.0, 2.0, 2.0]


def test_the_cosine_falls_from_the_rate_to_the_floor(monkeypatch):
    # 4 steps per epoch in groups of two batches, 2 of 8 to warm up; then cos at 0, 30, 60, 90, 120, 150 degrees.
    cosines = [1, 3**0.5 / 2, 0.5, 0, -0.5, -(3**0.5) / 2]
    expected = [1.0, 2.0, *(2 * (0.1 + 0.9 * 0.5 * (1 + each)) for each in cosines)]
    found = rates(monkeypatch, epochs=2, accumulate=2, schedule="cosine", warmup_steps=2, floor=0.1)
    assert found == pytest.approx(expected)


@pytest.mark.parametrize("wrong", [{"floor": 1.5}, {"epochs": 0}, {"lr": 0}, {"clip": -1}, {"warmup": 5}])
def test_a_plan_that_makes_no_sense_is_refused(wrong):
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        TrainPlan(**wrong)


def test_bf16_on_a_cpu_trains_and_weights_stay_float32():
    net, log = fit(TrainPlan(epochs=20, lr=0.05), run=replace(RUN, precision="bf16"))
    assert log.curve[-1]["loss"] < 0.6 * log.curve[0]["loss"]
    assert {each.dtype for each in net.parameters()} == {torch.float32}
    assert not torch.equal(weights(net), weights(fit(TrainPlan(epochs=20, lr=0.05))[0]))


def test_devices_and_precisions_that_are_not_there_are_refused():
    with pytest.raises(ConfigError, match="There is no device 'abacus'; use auto, cpu, cuda"):
        device_of(replace(RUN, device="abacus"))
    with pytest.raises(ConfigError, match="The device 'mps' is not to be had here"):
        device_of(replace(RUN, device="mps"))
    with pytest.raises(ConfigError, match="fp16 needs a GPU"):
        precision_of(replace(RUN, precision="fp16"))
    assert precision_of(replace(RUN, precision="auto")) in ("fp32", "bf16")


def test_a_fit_on_another_device_before_does_not_matter(monkeypatch):
    """Accelerate remembers the first device of a process, and would not go back or would move the net there."""
    expected = weights(fit(TrainPlan(epochs=1))[0])
    for state in (PartialState, AcceleratorState):
        monkeypatch.setitem(state._shared_state, "device", torch.device("meta"))
    assert torch.equal(weights(fit(TrainPlan(epochs=1))[0]), expected)


def test_progress_and_log_are_told(monkeypatch):
    said, shown = [], []
    run = replace(
        RUN,
        log=lambda message, numbers=None: said.append((message, numbers)),
        progress=lambda *parts: shown.append(parts),
    )
    fit(TrainPlan(epochs=2), run=run, name="toy", validate=lambda: 0.5)
    assert [message.split(":")[0] for message, _ in said] == ["toy epoch 1/2", "toy epoch 2/2"]
    assert said[0][1]["validation"] == 0.5
    assert shown[0][:3] == ("toy", 1, 14)


# Resuming.


def tiny_log() -> Dataset:
    rng = np.random.default_rng(3)
    user, item = np.repeat(np.arange(30), 6), rng.integers(0, 12, 180)
    return Dataset.from_arrays(Vocab(np.arange(30)), Vocab(np.arange(12)), user, item, ordered=True)


SETTINGS = SASRec(
    dim=8,
    length=6,
    layers=1,
    dropout=0.3,
    negatives=5,
    batch_tokens=48,
    plan=TrainPlan(epochs=4, lr=0.01, schedule="cosine"),
)


def fit_sasrec(checkpoints: Path | None, *, resume: bool = False, die_at_batch: int | None = None) -> dict:
    """The fitted arrays; dies without a word in the middle of an epoch where asked."""
    plain, done = sasrec._next_item_loss, 0

    def loss(*arguments):
        nonlocal done
        done += 1
        if done == die_at_batch:
            os.kill(os.getpid(), signal.SIGKILL)
        return plain(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sasrec, "_next_item_loss", loss)
        run = Run(seed=9, device="cpu", precision="fp32", checkpoints=checkpoints, resume=resume)
        return SETTINGS.fit(tiny_log(), run=run).state()


def test_killed_in_the_middle_of_an_epoch_and_resumed_it_is_as_if_nothing_had_been(tmp_path):
    folder = tmp_path / "checkpoints"
    killed = subprocess.run([sys.executable, __file__, folder], capture_output=True, text=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert [each.name for each in tmp_path.iterdir()] == ["checkpoints"]
    assert json.loads((folder / "checkpoint.json").read_text())["epochs_done"] == 2
    resumed, whole = fit_sasrec(folder, resume=True), fit_sasrec(None)
    assert resumed.keys() == whole.keys()
    for name, array in whole.items():
        assert np.array_equal(resumed[name], array), name


def stopped_after(epochs, folder, plan, **more):
    """A net whose training was interrupted after some epochs."""
    net, seen = small_net(dropout=0.4), 0

    def loss(batch):
        nonlocal seen
        seen += 1
        if seen > 7 * epochs:
            raise KeyboardInterrupt
        return {"squares": squares(net, batch)}

    with pytest.raises(KeyboardInterrupt):
        fit(plan, net=net, loss=loss, run=replace(RUN, checkpoints=folder), **more)


def test_counters_best_weights_and_patience_are_resumed_too(tmp_path):
    plan = TrainPlan(epochs=9, lr=0.05, patience=3)
    scores = [0.2, 0.9, 0.1, 0.3, 0.4, 0.8, 0.7]

    def scripted(start):
        given = iter(scores[start:])
        return lambda: next(given)

    whole, expected = fit(plan, net=small_net(dropout=0.4), validate=scripted(0))
    stopped_after(3, tmp_path / "c", plan, validate=scripted(0))
    said = []
    run = replace(RUN, checkpoints=tmp_path / "c", resume=True, log=lambda message, numbers=None: said.append(message))
    resumed, log = fit(plan, net=small_net(dropout=0.4), run=run, validate=scripted(3))
    assert said[0] == "resumed after epoch 3"
    assert torch.equal(weights(resumed), weights(whole))
    assert (log.best_epoch, log.stopped_early, len(log.curve)) == (2, True, 5)
    assert [row["loss"] for row in log.curve] == [row["loss"] for row in expected.curve]
    # Resumed once more, there is nothing left to do.
    again, log = fit(plan, net=small_net(dropout=0.4), run=run, validate=scripted(99))
    assert torch.equal(weights(again), weights(whole))
    assert len(log.curve) == 5
    assert not again.training


def test_without_a_checkpoint_resuming_begins_at_the_beginning(tmp_path):
    run = replace(RUN, checkpoints=tmp_path / "c", resume=True)
    assert torch.equal(weights(fit(TrainPlan(epochs=2), run=run)[0]), weights(fit(TrainPlan(epochs=2))[0]))


def test_without_resume_an_old_checkpoint_is_not_read(tmp_path):
    plan = TrainPlan(epochs=3)
    stopped_after(2, tmp_path / "c", plan)
    net, log = fit(plan, net=small_net(), run=replace(RUN, checkpoints=tmp_path / "c"))
    assert len(log.curve) == 3
    assert torch.equal(weights(net), weights(fit(plan)[0]))


def test_a_checkpoint_of_other_settings_or_data_is_refused(tmp_path):
    plan, run = TrainPlan(epochs=3), replace(RUN, checkpoints=tmp_path / "c", resume=True)
    stopped_after(2, tmp_path / "c", plan, identity="this data")
    for other in ({"plan": plan, "identity": "other data"}, {"plan": TrainPlan(epochs=4), "identity": "this data"}):
        with pytest.raises(ConfigError, match="is of other settings or other data, so it cannot be resumed"):
            fit(run=run, **other)
    fit(plan, run=run, identity="this data")


@pytest.mark.parametrize("name", ["checkpoint.json", "checkpoint.safetensors"])
@pytest.mark.parametrize("damage", ["torn", "edited", "empty"])
def test_a_torn_or_edited_checkpoint_is_refused_with_the_file_named(tmp_path, name, damage):
    plan = TrainPlan(epochs=3)
    stopped_after(2, tmp_path / "c", plan)
    path = tmp_path / "c" / name
    whole = path.read_bytes()
    edited = whole.replace(b'"epochs_done": 2', b'"epochs_done": 1')[:-2] + b"\n}"
    path.write_bytes({"torn": whole[:-9], "edited": edited, "empty": b""}[damage])
    with pytest.raises(BundleError, match=name):
        fit(plan, run=replace(RUN, checkpoints=tmp_path / "c", resume=True))


def test_a_checkpoint_without_its_weights_is_refused(tmp_path):
    plan = TrainPlan(epochs=3)
    stopped_after(2, tmp_path / "c", plan)
    (tmp_path / "c" / "checkpoint.safetensors").unlink()
    with pytest.raises(BundleError, match=r"checkpoint\.safetensors is torn or was edited"):
        fit(plan, run=replace(RUN, checkpoints=tmp_path / "c", resume=True))


def test_a_folder_of_other_things_does_not_become_a_checkpoint(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ForetasteError, match=r"no folder with a checkpoint\.json; it is left alone"):
        fit(TrainPlan(epochs=1), run=replace(RUN, checkpoints=tmp_path))


if __name__ == "__main__":
    torch.set_num_threads(1)
    # There are four batches in an epoch, so this is in the middle of the third.
    fit_sasrec(Path(sys.argv[1]), die_at_batch=10)


def test_a_validation_score_that_is_no_number_stops_the_fit_and_says_so():
    with pytest.raises(TrainingDiverged, match=r"validation score of epoch 1 is not a number. Lower lr"):
        fit(TrainPlan(epochs=2), validate=lambda: float("nan"))
