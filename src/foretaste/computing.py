"""How a network's blocks are computed while it learns: compiled, or once more on the way back instead of remembered."""

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ParamSpec

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from foretaste.errors import ConfigError

__all__ = ["blocks_computed", "check_compiler"]

Arguments = ParamSpec("Arguments")


@contextmanager
def blocks_computed(net: nn.Module, name: str, *, again: bool, compiled: bool) -> Iterator[None]:
    """Within the block of code, the blocks of a network (``net.blocks``) are computed in another way while it learns.

    Nothing changes in what answers, in the names of weights, or in the network afterwards.

    Args:
        name: Of the network, for errors.
        again: Remember only what goes into each block, and compute the block once more, with the same random draws,
            when its gradient is due: a third more to compute, and the memory of one block instead of all.
        compiled: Compile the blocks; a network without any is compiled whole. A block that says ``loops = True`` is not
            compiled: its loop over places would be unrolled, for each length anew.

    Raises:
        ConfigError: The network has no blocks to compute again.

    Source: computing again is Chen et al., "Training Deep Nets with Sublinear Memory Cost", 2016, with one segment per
        block.
    """
    blocks = [block for module in net.modules() for block in getattr(module, "blocks", [])]
    if again and not blocks:
        raise ConfigError(
            f"plan.checkpoint_activations computes the blocks of a network again; {name} has none. "
            "Leave it out, and lower batch_tokens to save memory."
        )
    changed = list(dict.fromkeys(blocks or [net])) if again or compiled else []
    for module in changed:
        compiles = compiled and not getattr(module, "loops", False)
        module.forward = _in_training(module, module.forward, again, compiles)
    try:
        yield
    finally:
        for module in changed:
            del module.forward  # what was put before the method of its class


def check_compiler(device: torch.device) -> None:
    """Raises ConfigError where ``torch.compile`` would find no compiler."""
    default = "clang++" if sys.platform == "darwin" else "g++"
    wanted = [os.environ.get("CXX") or default] if device.type == "cpu" else [os.environ.get("CC"), "gcc", "clang"]
    if not any(shutil.which(each) for each in wanted if each):
        raise ConfigError(
            f"--compile needs a compiler, and {wanted[0] or wanted[1]} is not to be found. Install it, name another in "
            f"{'CXX' if device.type == 'cpu' else 'CC'}, or leave --compile out."
        )


def _in_training(
    module: nn.Module, plain: Callable[Arguments, Any], again: bool, compiled: bool
) -> Callable[Arguments, Any]:
    """The forward of a module that is the plain one but while learning."""
    # Batches come in a few dozen shapes; one program for all of them is compiled once.
    ready = torch.compile(plain, dynamic=True) if compiled else plain

    def forward(*arguments: Arguments.args, **named: Arguments.kwargs) -> Any:
        if not (module.training and torch.is_grad_enabled()):
            return plain(*arguments, **named)
        if again:
            # Tensors go in one by one: from them it learns which device draws the random numbers.
            return checkpoint(lambda *given: ready(*given, **named), *arguments, use_reentrant=False)
        return ready(*arguments, **named)

    return forward
