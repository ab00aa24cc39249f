"""Blocks that are computed once more on the way back, or compiled, learn the same."""

import shutil
from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from foretaste.batching import Sequences
from foretaste.computing import blocks_computed, check_compiler
from foretaste.errors import ConfigError
from foretaste.models import SASRec
from foretaste.recommender import About
from foretaste.run import Run
from foretaste.train import TrainPlan, train

RUN = Run(seed=2, device="cpu", precision="fp32")
SMALL = SASRec(dim=16, length=12, layers=3, heads=2, dropout=0.3, batch_tokens=256, plan=TrainPlan(epochs=2, lr=0.01))


def with_plan(**plan) -> SASRec:
    return SMALL.model_copy(update={"plan": SMALL.plan.model_copy(update=plan)})


def net_and_batch(shop):
    torch.manual_seed(0)
    net = SMALL.net(About.of(shop)).train()
    batches = SMALL.batches(SMALL.windows(SMALL.read(Sequences.of(shop))), 256, np.random.default_rng(0))
    return net, batches[0]


def gradients(net, batch, around) -> list[torch.Tensor]:
    net.zero_grad()
    torch.manual_seed(1)
    with around:
        sum(SMALL.losses(net, batch).values()).backward()
    return [each.grad.clone() for each in net.parameters()]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_computed_once_more_the_gradients_are_the_same_with_dropout(shop, precision):
    net, batch = net_and_batch(shop)
    low = torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16")
    with low:
        plain = gradients(net, batch, nullcontext())
        again = gradients(net, batch, blocks_computed(net, "sasrec", again=True, compiled=False))
    assert all(torch.equal(one, two) for one, two in zip(plain, again, strict=True))
    assert any(each.abs().max() > 0 for each in again)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_computed_once_more_a_whole_fit_is_the_same(shop, precision):
    run = replace(RUN, precision=precision)
    plain, again = SMALL.fit(shop, run=run), with_plan(checkpoint_activations=True).fit(shop, run=run)
    assert [row["loss"] for row in again.training["curve"]] == [row["loss"] for row in plain.training["curve"]]
    assert all(np.array_equal(array, again.state()[name]) for name, array in plain.state().items())


def remembered(net, batch, around) -> int:
    """How many numbers the forward pass keeps for the way back, each tensor once, weights left out."""
    own = {each.data_ptr() for each in net.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor):
        if tensor.data_ptr() not in own:
            kept[tensor.data_ptr()] = max(kept.get(tensor.data_ptr(), 0), tensor.numel())
        return tensor

    held = []  # so that no place in memory is taken twice
    with (
        around,
        torch.autograd.graph.saved_tensors_hooks(lambda each: held.append(each) or keep(each), lambda each: each),
    ):
        held.append(SMALL.losses(net, batch))
    return sum(kept.values())


def test_computed_once_more_less_is_remembered(shop):
    net, batch = net_and_batch(shop)
    all_of_it = remembered(net, batch, nullcontext())
    little = remembered(net, batch, blocks_computed(net, "sasrec", again=True, compiled=False))
    assert little < all_of_it / 3


def test_a_block_is_computed_twice_only_where_a_gradient_is_due(shop):
    net, batch = net_and_batch(shop)
    calls = []
    net.blocks[1].register_forward_hook(lambda *_: calls.append("begun"))
    inner = net.blocks[1].network
    inner.register_forward_pre_hook(lambda *_: calls.append("inner"))
    with blocks_computed(net, "sasrec", again=True, compiled=False):
        sum(SMALL.losses(net, batch).values()).backward()
        assert calls.count("inner") == 2
        net.eval()
        with torch.no_grad():
            net(batch.history)
        assert calls.count("inner") == 3


def test_afterwards_the_net_is_as_it_was_even_after_an_error(shop):
    net, _ = net_and_batch(shop)
    names = set(net.state_dict())

    def stopped():
        with blocks_computed(net, "sasrec", again=True, compiled=False):
            assert all("forward" in vars(block) for block in net.blocks)
            assert set(net.state_dict()) == names
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert not any("forward" in vars(module) for module in net.modules())


def test_a_net_without_blocks_cannot_compute_them_once_more():
    plan = TrainPlan(epochs=1, checkpoint_activations=True)
    with pytest.raises(
        ConfigError, match=r"checkpoint_activations computes the blocks of a network again; toy has none"
    ):
        train(nn.Linear(1, 1), lambda epoch: [], lambda batch: {}, plan, RUN, name="toy")


@pytest.mark.parametrize(("device", "named"), [("cpu", "CXX"), ("cuda", "CC")])
def test_without_a_compiler_the_error_says_what_to_do(device, named, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv(named, raising=False)
    with pytest.raises(
        ConfigError, match=rf"--compile needs a compiler.*name another in {named}, or leave --compile out"
    ):
        check_compiler(torch.device(device))
    monkeypatch.setenv(named, "/no/such/compiler")
    with pytest.raises(ConfigError, match="/no/such/compiler is not to be found"):
        check_compiler(torch.device(device))


def test_a_fit_asks_for_the_compiler_before_it_begins(shop, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(ConfigError, match="--compile needs a compiler"):
        SMALL.fit(shop, run=replace(RUN, compile=True))


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs g++, and there is none here")
@pytest.mark.filterwarnings(
    "ignore:.*\\.grad attribute of a Tensor:UserWarning"
)  # torch hides it, unless all are errors
@pytest.mark.parametrize("again", [False, True])
def test_compiled_blocks_learn_the_same(shop, again, tmp_path):
    settings = with_plan(checkpoint_activations=again).model_copy(update={"dropout": 0.0})
    plain = settings.fit(shop, run=RUN)
    model = settings.fit(shop, run=replace(RUN, compile=True, checkpoints=tmp_path / "c"))
    losses, expected = ([row["loss"] for row in each.training["curve"]] for each in (model, plain))
    assert losses == pytest.approx(expected, rel=1e-3)
    assert model.state().keys() == plain.state().keys()
    assert not any("_orig_mod" in name for name in load_file(tmp_path / "c/epoch-2.safetensors"))
    # Dropout inside of compiled code is drawn by torch, from the seed of the epoch.
    drawn = [with_plan(epochs=1).fit(shop, run=replace(RUN, compile=True)).training["curve"][0]["loss"] for _ in "ab"]
    assert drawn[0] == drawn[1] != SMALL.fit(shop, run=RUN).training["curve"][0]["loss"]
