"""Losses over the catalogue that never hold the whole (places x items) matrix."""

from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["full_softmax", "sampled_softmax"]

CHUNK = 256  # places at a time: the logits of a chunk stay in the processor's cache for catalogues of a few thousand


def full_softmax(hidden: Tensor, items: Tensor, targets: Tensor) -> Tensor:
    """Mean cross-entropy of each target against the whole catalogue.

    Equal to ``cross_entropy(hidden @ items.T, targets)``, but computed in chunks of places, with both gradients taken
    in the forward pass; so memory grows with places + items, not with their product, and nothing is computed twice.

    Args:
        hidden: (places, dim) states to predict from.
        items: (items, dim) item vectors.
        targets: (places,) indices of the items that came next.

    Returns:
        A scalar, in nats.

    Source: the chunked evaluation follows the idea of Wijmans et al., "Cut Your Losses in Large-Vocabulary Language
        Models", ICLR 2025. Differs: no filtering of small gradients, plain matrix products.
    """
    return _FullSoftmax.apply(hidden, items, targets)  # type: ignore[no-any-return, no-untyped-call]


def sampled_softmax(
    hidden: Tensor, items: Tensor, targets: Tensor, negatives: Tensor, log_odds: Tensor | None = None
) -> Tensor:
    """Mean cross-entropy of each target against negatives that all places share.

    Args:
        hidden: (places, dim) states to predict from.
        items: (items, dim) item vectors.
        targets: (places,) indices of the items that came next.
        negatives: (negatives,) indices; one equal to a place's target is masked there.
        log_odds: (items,) natural logarithm of each item's expected count among the negatives; its subtraction
            corrects for how they were drawn. None: drawn uniformly.

    Returns:
        A scalar, in nats.

    Source: Bengio, Senécal, "Adaptive Importance Sampling to Accelerate Training of a Neural Probabilistic Language
        Model", 2008; the correction as in Yi et al., RecSys 2019, section 4.1. Differs: the target's own logit is not
        corrected, as it is always present.
    """
    positive = (hidden * items[targets]).sum(1, keepdim=True)
    against = hidden @ items[negatives].T
    if log_odds is not None:
        against = against - log_odds[negatives]
    against = against.masked_fill(targets[:, None] == negatives, -torch.inf)
    logits = torch.cat([positive, against], dim=1).float()
    return torch.nn.functional.cross_entropy(logits, torch.zeros_like(targets))


class _FullSoftmax(torch.autograd.Function):
    """Cross-entropy whose gradients are ready when its value is."""

    @staticmethod
    def forward(context: Any, hidden: Tensor, items: Tensor, targets: Tensor) -> Tensor:
        device = hidden.device.type
        low = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else items.dtype
        # Whole chunks only: the libraries under torch keep a plan for every shape of product that they ever met, and
        # with another number of places in each batch those plans pile up to gigabytes.
        spare = -len(hidden) % CHUNK
        weights, states = items.to(low), nn.functional.pad(hidden.to(low), (0, 0, 0, spare))
        total = torch.zeros((), dtype=torch.float32, device=hidden.device)
        count = max(1, len(hidden))
        hidden_gradient = torch.empty(states.shape, dtype=torch.float32, device=hidden.device)
        items_gradient = torch.zeros(items.shape, dtype=torch.float32, device=items.device)
        needs_gradient = context.needs_input_grad[0] or context.needs_input_grad[1]
        with torch.autocast(device, enabled=False):
            for start in range(0, len(states), CHUNK):
                chunk, wanted = slice(start, start + CHUNK), targets[start : start + CHUNK, None]
                logits = states[chunk] @ weights.T
                highest = logits.amax(1, keepdim=True).float()
                # One pass over the chunk each: the softmax is never normalised, its products are.
                odds = torch.sub(logits, highest).exp_()
                whole = odds.sum(1, keepdim=True)
                normalizer = (highest + whole.log())[: len(wanted)]
                total += (normalizer - logits[: len(wanted)].gather(1, wanted).float()).sum()
                if needs_gradient:
                    odds = odds.to(low)
                    hidden_gradient[chunk] = (odds @ weights).float() / whole
                    items_gradient += odds.T @ (states[chunk] / whole).to(low)
            hidden_gradient = hidden_gradient[: len(hidden)]
            if needs_gradient:
                hidden_gradient -= weights[targets].float()
                items_gradient.index_add_(0, targets, states[: len(hidden)].float(), alpha=-1)
        context.save_for_backward(hidden_gradient / count, items_gradient / count)
        context.dtypes = hidden.dtype, items.dtype
        return total / count

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None]:
        hidden_gradient, items_gradient = context.saved_tensors
        of_hidden, of_items = context.dtypes
        (scale,) = gradients
        return (hidden_gradient * scale).to(of_hidden), (items_gradient * scale).to(of_items), None
