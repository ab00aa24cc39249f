"""The training loop: equal to optimiser steps written by hand, and to itself after being killed."""

from dataclasses import dataclass, replace
from types import SimpleNamespace

import pytest
import torch
from accelerate.state import AcceleratorState, PartialState
from pydantic import ValidationError
from torch import nn

from foretaste import mishaps
from foretaste.averaging import WeightAverage
from foretaste.checkpoints import TrainingState
from foretaste.errors import BundleError, ConfigError, ForetasteError, TooLarge, TrainingDiverged
from foretaste.run import Run
from foretaste.train import TrainLog, TrainPlan, device_of, precision_of, train

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
@pytest.mark.parametrize("decay_vectors", [False, True])
@pytest.mark.parametrize("centralize", [False, True])
def test_training_is_the_optimiser_steps_that_one_would_write(accumulate, clip, decay_vectors, centralize):
    decay = {"weight_decay": 0.1, "decay_vectors": decay_vectors}
    plan = TrainPlan(epochs=3, lr=0.05, accumulate=accumulate, clip=clip, centralize=centralize, **decay)
    trained, _ = fit(plan)
    net = small_net()
    matrices, vectors = [], []
    for each in net.parameters():
        (vectors if each.dim() == 1 else matrices).append(each)
    assert matrices
    assert vectors
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.1 * decay_vectors}]
    optimizer = torch.optim.AdamW(groups, lr=0.05, betas=(0.9, 0.98))
    for epoch in range(3):
        batches = seven_batches(epoch)
        for start in range(0, 7, accumulate):
            group = batches[start : start + accumulate]
            optimizer.zero_grad()
            torch.stack([squares(net, batch) for batch in group]).mean().backward()
            if centralize:
                for each in matrices:
                    each.grad = each.grad - each.grad.mean(1, keepdim=True)
            if clip is not None:
                nn.utils.clip_grad_norm_(net.parameters(), clip)
            optimizer.step()
    torch.testing.assert_close(weights(trained), weights(net), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("accumulate", [1, 3])
@pytest.mark.parametrize("momentum", [0.0, 0.6])
@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_training_by_adagrad_is_the_steps_that_one_would_write(accumulate, momentum, decay):
    more = {"weight_decay": decay, "accumulate": accumulate}
    trained, _ = fit(TrainPlan(epochs=3, optimizer="adagrad", lr=0.05, momentum=momentum, **more))
    net = small_net()
    squared = [torch.zeros_like(each) for each in net.parameters()]
    velocity = [torch.zeros_like(each) for each in net.parameters()]
    for epoch in range(3):
        batches = seven_batches(epoch)
        for start in range(0, 7, accumulate):
            loss = torch.stack([squares(net, batch) for batch in batches[start : start + accumulate]]).mean()
            found = torch.autograd.grad(loss, list(net.parameters()))
            with torch.no_grad():
                for number, (each, gradient) in enumerate(zip(net.parameters(), found, strict=True)):
                    squared[number] += gradient**2
                    velocity[number] = momentum * velocity[number] - 0.05 * gradient / (squared[number] + 1e-6) ** 0.5
                    shrunk = 1 - 0.05 * decay if each.dim() > 1 else 1
                    each.copy_(shrunk * each + velocity[number])
    torch.testing.assert_close(weights(trained), weights(net), rtol=1e-4, atol=1e-6)


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


def averaged_by_hand(epochs, decay, lr=0.05):
    """The trained weights and their average after each epoch, step by step."""
    net, rows, step = small_net(), [], 0
    optimizer = torch.optim.AdamW(net.parameters(), lr=lr, betas=(0.9, 0.98), weight_decay=0.0)
    average = weights(net)
    for epoch in range(epochs):
        for batch in seven_batches(epoch):
            optimizer.zero_grad()
            squares(net, batch).backward()
            optimizer.step()
            kept = min(decay, (1 + step) / (10 + step))
            average = kept * average + (1 - kept) * weights(net)
            step += 1
        rows.append((weights(net), average))
    return rows


@pytest.mark.parametrize("decay", [0.3, 0.999])
def test_the_average_of_the_weights_is_that_of_the_steps_one_would_write(decay):
    trained, average = averaged_by_hand(3, decay)[-1]
    found = weights(fit(TrainPlan(epochs=3, lr=0.05, average=decay))[0])
    torch.testing.assert_close(found, average, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(found, trained, rtol=1e-2)


def test_validation_sees_the_average_and_training_goes_on_from_what_was_trained():
    plan = {"average": 0.9, "patience": 9}
    net, log, after = judged([0.1, 0.5, 0.3, 0.2], epochs=4, **plan)
    for found, (_, average) in zip(after, averaged_by_hand(4, 0.9), strict=True):
        torch.testing.assert_close(found, average, rtol=1e-4, atol=1e-5)
    assert torch.equal(weights(net), after[1])  # the best average, not the best trained weights
    assert log.best_epoch == 2
    plain = judged([0.1, 0.5, 0.3, 0.2], epochs=4, patience=9)[1]
    assert [row["loss"] for row in log.curve] == [row["loss"] for row in plain.curve]


def test_what_batch_norms_keep_is_averaged_with_the_weights():
    torch.manual_seed(5)
    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))
    average = WeightAverage(net, 0.9)
    expected = [net[1].running_mean.clone(), net[1].running_var.clone()]
    for step in range(5):
        net(torch.randn(16, 3) * (1 + step))
        average.update(step)
        kept = min(0.9, (1 + step) / (10 + step))
        for mean, now in zip(expected, (net[1].running_mean, net[1].running_var), strict=True):
            mean.mul_(kept).add_((1 - kept) * now)
    now = net[1].running_var.clone()
    with average.in_place():
        torch.testing.assert_close([net[1].running_mean, net[1].running_var], expected)
    assert torch.equal(net[1].running_var, now)
    assert not torch.allclose(now, expected[1], rtol=0.1)
    assert net[1].num_batches_tracked == 5
    average.finish()
    torch.testing.assert_close(net[1].running_var, expected[1])


def test_frozen_and_shared_weights_can_be_averaged():
    torch.manual_seed(5)
    net = nn.Sequential(nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 3), nn.Linear(3, 1))
    net[2].weight = net[0].weight
    net[3].bias.requires_grad_(False)
    bias = net[3].bias.clone()
    fit(TrainPlan(epochs=2, lr=0.05, average=0.9), net=net)
    assert torch.equal(net[3].bias, bias)
    assert net[2].weight is net[0].weight


@pytest.mark.parametrize("wrong", [0.0, 1.0, 1.5])
def test_an_average_that_keeps_all_or_nothing_is_refused(wrong):
    with pytest.raises(ValidationError, match="average"):
        TrainPlan(average=wrong)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_ends_training_with_advice(bad):
    net = small_net()
    advice = r"toy: the loss became (nan|inf) in epoch 1, by step 7 of 7\. Lower lr \(now 0\.001\), set clip\.$"
    with pytest.raises(TrainingDiverged, match=advice):
        fit(TrainPlan(epochs=2), net=net, loss=lambda batch: {"x": squares(net, batch) * bad}, name="toy")


def test_the_advice_names_what_is_set():
    net, run = small_net(), replace(RUN, precision="bf16")
    with pytest.raises(TrainingDiverged, match=r"lower clip \(now 2\) or use --precision fp32 \(now bf16\)\.$"):
        fit(TrainPlan(clip=2.0), net=net, run=run, loss=lambda batch: {"x": squares(net, batch) * torch.nan})


@pytest.mark.parametrize(("every", "asked"), [(50, 14), (3, 10), (1, 8)])
def test_an_epoch_whose_loss_is_no_number_is_not_waited_for(every, asked, monkeypatch):
    """The loss becomes nan at the eighth step, the first of the second epoch."""
    monkeypatch.setattr(mishaps, "CHECKED_EVERY", every)
    net, calls = small_net(), []

    def loss(batch):
        calls.append(batch)
        return {"x": squares(net, batch) * (torch.nan if len(calls) >= 8 else 1)}

    step = asked - 7
    with pytest.raises(TrainingDiverged, match=rf"the loss became nan in epoch 2, by step {step} of 7"):
        fit(TrainPlan(epochs=3), net=net, loss=loss)
    assert len(calls) == asked


class Explodes(torch.autograd.Function):
    """A loss that is a number with a gradient that is none: it shows only at the next step."""

    @staticmethod
    def forward(context, loss):
        return loss.clone()

    @staticmethod
    def backward(context, gradient):
        return gradient * torch.nan


@pytest.mark.parametrize("spoil", [lambda loss: loss * torch.nan, Explodes.apply], ids=["loss", "gradient"])
def test_what_diverged_is_not_kept_and_the_checkpoint_before_is(spoil, tmp_path):
    plan, folder = TrainPlan(epochs=4, lr=0.05), tmp_path / "c"
    stopped_after(3, folder, plan)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    net, seen = small_net(dropout=0.4), []

    def loss(batch):
        seen.append(batch)
        plain = squares(net, batch)
        return {"x": spoil(plain) if len(seen) == 7 else plain}  # the last step of the epoch

    with pytest.raises(TrainingDiverged, match=rf"in epoch 4.*The checkpoint of epoch 3 is kept in {folder}\.$"):
        fit(plan, net=net, loss=loss, run=replace(RUN, checkpoints=folder, resume=True))
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("[enforce fail at alloc_cpu.cpp:127] . DefaultCPUAllocator: can't allocate memory: you tried"),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nMore lines"),
        RuntimeError("CUDA error: out of memory"),
        MemoryError("Unable to allocate 7.11 PiB for an array"),
        MemoryError(),
    ],
)
def test_where_memory_ends_the_error_names_the_settings_to_lower(error, tmp_path):
    plan, run = TrainPlan(epochs=4, lr=0.05), replace(RUN, checkpoints=tmp_path / "c", resume=True)
    stopped_after(2, tmp_path / "c", plan)

    def loss(batch):
        raise error

    told = str(error).split("\n")[0].rstrip(".") or "no memory"
    with pytest.raises(TooLarge) as raised:
        fit(plan, loss=loss, run=run, name="toy")
    assert str(raised.value) == (
        f"toy: out of memory on cpu in epoch 3 ({told}). Lower the size of a batch. "
        f"The checkpoint of epoch 2 is kept in {tmp_path / 'c'}."
    )
    whole, _ = fit(plan, net=small_net(dropout=0.4))
    assert torch.equal(weights(fit(plan, net=small_net(dropout=0.4), run=run)[0]), weights(whole))


def test_on_a_gpu_the_precision_is_named_too():
    gpu = mishaps.Mishaps("toy", TrainPlan(), RUN, torch.device("cuda"), "fp32", SimpleNamespace(epochs_done=0), "dim")
    with pytest.raises(TooLarge, match="or use --precision bf16"), gpu.memory_explained():
        raise torch.OutOfMemoryError("CUDA out of memory.")


def test_other_errors_are_not_taken_for_a_lack_of_memory():
    def loss(batch):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        fit(TrainPlan(epochs=1), loss=loss)


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


def test_momentum_is_refused_where_the_optimizer_has_none():
    with pytest.raises(ValidationError, match=r"momentum \(0.9\) is a setting of optimizer adagrad; adamw has betas"):
        TrainPlan(momentum=0.9)


def test_bf16_on_a_cpu_trains_and_weights_stay_float32():
    net, log = fit(TrainPlan(epochs=20, lr=0.05), run=replace(RUN, precision="bf16"))
    assert log.curve[-1]["loss"] < 0.6 * log.curve[0]["loss"]
    assert {each.dtype for each in net.parameters()} == {torch.float32}
    assert not torch.equal(weights(net), weights(fit(TrainPlan(epochs=20, lr=0.05))[0]))


def halves_on_a_cpu(monkeypatch, initial: float) -> None:
    """Let a run train in fp16 here, with the scaling of losses that it has on a GPU."""
    monkeypatch.setattr("foretaste.train.precision_of", lambda run: run.precision)
    scaler = torch.amp.GradScaler
    monkeypatch.setattr(
        torch.amp, "GradScaler", lambda device, enabled: scaler(device, init_scale=initial, enabled=enabled)
    )


def test_halves_are_trained_with_scaled_losses_and_come_near_whole_numbers(monkeypatch):
    plan = TrainPlan(epochs=3, lr=0.05, clip=1.0)
    whole, _ = fit(plan)
    halves_on_a_cpu(monkeypatch, 2.0**8)
    net, _ = fit(plan, run=replace(RUN, precision="fp16"))
    torch.testing.assert_close(weights(net), weights(whole), rtol=0.1, atol=0.05)
    assert not torch.equal(weights(net), weights(whole))


def test_a_scale_that_is_too_large_is_lowered_and_costs_only_its_steps(monkeypatch):
    halves_on_a_cpu(monkeypatch, 2.0**30)  # the first steps overflow
    net, log = fit(TrainPlan(epochs=20, lr=0.05), run=replace(RUN, precision="fp16"))
    assert bool(weights(net).isfinite().all())
    assert log.curve[-1]["loss"] < 0.5 * log.curve[0]["loss"]


def test_a_run_in_halves_goes_on_with_the_scale_that_it_had(monkeypatch, tmp_path):
    halves_on_a_cpu(monkeypatch, 2.0**30)
    plan, halves = TrainPlan(epochs=4, lr=0.05), {"precision": "fp16"}
    whole, _ = fit(plan, net=small_net(dropout=0.4), run=replace(RUN, **halves))
    stopped_after(2, tmp_path / "c", plan, run=replace(RUN, **halves))
    resumed = replace(RUN, checkpoints=tmp_path / "c", resume=True, **halves)
    net, _ = fit(plan, net=small_net(dropout=0.4), run=resumed)
    assert torch.equal(weights(net), weights(whole))


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


def stopped_after(epochs, folder, plan, *, run=RUN, **more):
    """A net whose training was interrupted after some epochs."""
    net, seen = small_net(dropout=0.4), 0

    def loss(batch):
        nonlocal seen
        seen += 1
        if seen > 7 * epochs:
            raise KeyboardInterrupt
        return {"squares": squares(net, batch)}

    with pytest.raises(KeyboardInterrupt):
        fit(plan, net=net, loss=loss, run=replace(run, checkpoints=folder), **more)


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


@pytest.mark.parametrize("momentum", [0.0, 0.6])
def test_what_adagrad_remembers_is_resumed_too(tmp_path, momentum):
    plan = TrainPlan(epochs=5, optimizer="adagrad", lr=0.05, momentum=momentum)
    stopped_after(3, tmp_path / "c", plan)
    run = replace(RUN, checkpoints=tmp_path / "c", resume=True)
    resumed, _ = fit(plan, net=small_net(dropout=0.4), run=run)
    assert torch.equal(weights(resumed), weights(fit(plan, net=small_net(dropout=0.4))[0]))


def test_the_average_is_resumed_beside_the_weights(tmp_path):
    plan = TrainPlan(epochs=5, lr=0.05, average=0.9)
    whole, _ = fit(plan, net=small_net(dropout=0.4))
    stopped_after(3, tmp_path / "c", plan)
    run = replace(RUN, checkpoints=tmp_path / "c", resume=True)
    for _ in range(2):  # interrupted, and done
        resumed, _ = fit(plan, net=small_net(dropout=0.4), run=run)
        assert torch.equal(weights(resumed), weights(whole))


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
    this = {"data": "this", "settings": {"dim": 4}}
    stopped_after(2, tmp_path / "c", plan, identity=this)
    decayed = TrainPlan(epochs=3, lr=0.5, weight_decay=0.1)
    for other, told in (
        ({"plan": plan, "identity": {**this, "data": "other"}}, r"data other \(was this\)"),
        ({"plan": plan, "identity": {**this, "settings": {"dim": 5}}}, r"settings.dim 5 \(was 4\)"),
        (
            {"plan": decayed, "identity": this},
            r"plan.weight_decay 0.1 \(was 0.0\)",
        ),
    ):
        with pytest.raises(ConfigError, match=f"is of other settings or other data, so it cannot be resumed: .*{told}"):
            fit(run=run, **other)
    fit(plan, run=run, identity=this)


def test_a_run_may_go_on_with_a_lower_rate_and_says_so(tmp_path):
    said, settings = [], {"settings": {"batch_tokens": 64, "dim": 4}}
    stopped_after(2, tmp_path / "c", TrainPlan(epochs=3, lr=0.05), identity=settings)
    run = replace(RUN, checkpoints=tmp_path / "c", resume=True, log=lambda message, numbers=None: said.append(message))
    smaller = {"settings": {"batch_tokens": None, "dim": 4}}
    fit(TrainPlan(epochs=4, lr=0.01, clip=1.0), run=run, identity=smaller)
    assert said[0] == (
        "resumed after epoch 2, with settings.batch_tokens None (was 64), plan.epochs 4 (was 3), "
        "plan.lr 0.01 (was 0.05), plan.clip 1.0 (was None)"
    )
    assert len([each for each in said if " epoch " in each and "loss" in each]) == 2


@pytest.mark.parametrize("name", ["checkpoint.json", "epoch-2.safetensors"])
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
    (tmp_path / "c" / "epoch-2.safetensors").unlink()
    with pytest.raises(BundleError, match=r"epoch-2\.safetensors is torn or was edited"):
        fit(plan, run=replace(RUN, checkpoints=tmp_path / "c", resume=True))


def test_a_folder_of_other_things_does_not_become_a_checkpoint(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ForetasteError, match=r"no folder with a checkpoint\.json; it is left alone"):
        fit(TrainPlan(epochs=1), run=replace(RUN, checkpoints=tmp_path))


def test_a_validation_score_that_is_no_number_stops_the_fit_and_says_so():
    with pytest.raises(TrainingDiverged, match=r"validation score is not a number in epoch 1\. Lower lr"):
        fit(TrainPlan(epochs=2), validate=lambda: float("nan"))


def test_checkpoints_are_written_as_often_as_wanted(tmp_path, monkeypatch):
    written = []
    save = TrainingState.save
    monkeypatch.setattr(
        TrainingState, "save", lambda self, folder: (written.append(self.epochs_done), save(self, folder))
    )
    run = replace(RUN, checkpoints=tmp_path / "c")
    fit(TrainPlan(epochs=5, checkpoint_every=2), run=run)
    assert written == [2, 4, 5]
    net, _ = fit(TrainPlan(epochs=7), run=replace(run, resume=True))
    assert torch.equal(weights(net), weights(fit(TrainPlan(epochs=7))[0]))
