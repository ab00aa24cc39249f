"""Weights in whole numbers of 8 bits with a scale per row: a network that answers from a quarter of the memory."""

import copy
import re
from collections.abc import Mapping
from typing import Any, TypeVar

import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils import parametrize

__all__ = ["arrays_of", "in_eight_bits", "load_arrays"]

AnyNet = TypeVar("AnyNet", bound=nn.Module)

LARGEST = 127
NARROWEST = 16  # numbers in a row: of shorter ones the scale would eat up what is gained
SCALES = ".scales"
# How torch calls the two parts of what stands for a weight: "<module>.parametrizations.<weight>.original0" and "1".
PART = re.compile(r"(?P<module>.*\.)?parametrizations\.(?P<weight>\w+)\.original(?P<number>[01])")


def in_eight_bits(net: AnyNet) -> AnyNet:
    """A copy of a network, for answering only, whose matrices are int8 with a float32 scale per row.

    A row of a linear layer makes one of its outputs, a row of a table is one item, user or place. Vectors (biases,
    norms), matrices with rows of fewer than 16 numbers, and what is not a parameter stay as they are.

    Source: rounding to the nearest of 255 levels between -max and max of each row is the symmetric, per-channel form of
        Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference",
        CVPR 2018, section 2.1. Differs: only weights are rounded; they are multiplied out to float32 before they are
        used, so answers take no less time and what is computed stays float32.
    """
    net = copy.deepcopy(net).requires_grad_(False)
    for module, called in _weights(net).values():
        if _is_matrix(getattr(module, called)):
            parametrize.register_parametrization(module, called, _Scaled())
    return net


def arrays_of(net: nn.Module) -> dict[str, NDArray[Any]]:
    """The state of a network by name; an int8 matrix has its scales (rows, 1) beside it, under "<name>.scales"."""
    arrays = {}
    for name, tensor in net.state_dict().items():
        packed = PART.fullmatch(name)
        if packed:
            name = f"{packed['module'] or ''}{packed['weight']}{SCALES if packed['number'] == '1' else ''}"
        arrays[name] = tensor.detach().cpu().numpy()
    return arrays


def load_arrays(net: nn.Module, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Give a network, in place, the state that ``arrays_of`` has taken of one; int8 matrices stay int8.

    Raises:
        RuntimeError: Names or shapes are those of another network, or scales are missing.
    """
    weights, state = _weights(net), {}
    for name, array in arrays.items():
        weight = name.removesuffix(SCALES)
        if weight in weights and f"{weight}{SCALES}" in arrays:
            module, called = weights[weight]
            if not parametrize.is_parametrized(module, called):
                getattr(module, called).requires_grad_(False)
                parametrize.register_parametrization(module, called, _Scaled())
            within = weight.removesuffix(called)
            name = f"{within}parametrizations.{called}.original{int(name != weight)}"
        elif weight in weights and array.dtype == "int8":
            raise RuntimeError(f"{name} is int8 and has no scales")
        state[name] = torch.from_numpy(array)
    net.load_state_dict(state)


class _Scaled(nn.Module):
    """A matrix (rows, columns) from whole numbers of the same shape and scales (rows, 1)."""

    def forward(self, numbers: Tensor, scales: Tensor) -> Tensor:
        return numbers.to(scales.dtype) * scales

    def right_inverse(self, matrix: Tensor) -> tuple[Tensor, Tensor]:
        scales = matrix.abs().amax(1, keepdim=True) / LARGEST
        numbers = torch.where(scales > 0, matrix / scales, 0).round()
        return numbers.to(torch.int8), scales


def _weights(net: nn.Module) -> dict[str, tuple[nn.Module, str]]:
    """Where each parameter is, by its full name: its module, and its name there."""
    found = {}
    for prefix, module in net.named_modules():
        for called, _ in module.named_parameters(recurse=False):
            found[f"{prefix}.{called}" if prefix else called] = (module, called)
    return found


def _is_matrix(weights: Tensor) -> bool:
    return weights.is_floating_point() and weights.dim() == 2 and weights.shape[1] >= NARROWEST
