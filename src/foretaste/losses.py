"""Losses over the catalogue that never hold the whole (places x items) matrix."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["binary_cross_entropy", "bpr_max", "full_softmax", "sampled_softmax", "top1_max"]

# Logits at a time: enough that two cores share a product well, few enough that they stay in the processor's cache.
CHUNK_LOGITS = 1 << 21
LEAST_CHUNK = 64  # places, and negatives: fewer are filled up


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
    return _mean(hidden, items, partial(_against_all, targets=targets))


def sampled_softmax(
    hidden: Tensor, items: Tensor, targets: Tensor, negatives: Tensor, log_odds: Tensor | None = None
) -> Tensor:
    """Mean cross-entropy of each target against negatives that all places share, in chunks like ``full_softmax``.

    Args:
        hidden: (places, dim) states to predict from.
        items: (items, dim) item vectors.
        targets: (places,) indices of the items that came next.
        negatives: (negatives,) indices, drawn with or without repetition; one that is a place's target does not count
            there.
        log_odds: (items,) natural logarithm of each item's expected count among the negatives; its subtraction
            corrects for how they were drawn. None: drawn uniformly.

    Returns:
        A scalar, in nats.

    Source: Bengio, Senécal, "Adaptive Importance Sampling to Accelerate Training of a Neural Probabilistic Language
        Model", 2008; the correction as in Yi et al., RecSys 2019, section 4.1. Differs: the target's own logit is not
        corrected, as it is always present.
    """
    drawn, counts = torch.unique(negatives, return_counts=True)
    # A negative drawn twice counts twice in the sum, which is to say that its logit is higher by log 2.
    offset = counts.log() if log_odds is None else counts.log() - log_odds[drawn]
    return _mean(hidden, items, partial(_against_some, targets=targets, drawn=drawn, offset=offset))


def binary_cross_entropy(
    hidden: Tensor, items: Tensor, targets: Tensor, negatives: Tensor, positive_power: float = 1.0
) -> Tensor:
    """Mean over places of -log s(target)^power - sum over the place's negatives of log(1 - s), s = sigmoid of a score.

    Args:
        hidden: (places, dim) states to predict from.
        items: (items, dim) item vectors.
        targets: (places,) indices of the items that came next.
        negatives: (places, negatives) indices drawn for each place.
        positive_power: Below 1 it makes up for how rarely negatives are drawn (see ``calibrated_power``).

    Returns:
        A scalar, in nats.

    Source: Kang, McAuley, ICDM 2018, eq. 7; the power is beta of gBCE in Petrov, Macdonald, "gSASRec", RecSys 2023,
        eq. 10. Differs: a sum over several negatives where the first has one.
    """
    positive = (hidden * items[targets]).sum(-1).float()
    against = torch.einsum("pd,pnd->pn", hidden, nn.functional.embedding(negatives, items)).float()
    return (nn.functional.softplus(-positive).mul(positive_power) + nn.functional.softplus(against).sum(-1)).mean()


def calibrated_power(negatives: int, items: int, calibration: float) -> float:
    """Beta of gBCE: 1 at calibration 0 (plain BCE); at 1 it undoes the sampling so that scores are chances.

    Source: Petrov, Macdonald, "gSASRec", RecSys 2023, eq. 16. Differs: where there are more negatives than other items,
        which the paper does not look at, none of them is rare, and beta is 1.
    """
    rate = min(1.0, negatives / max(1, items - 1))
    return rate * (calibration * (1 - 1 / rate) + 1 / rate)


# From hidden, items and the type to multiply in to the sum of the losses and its gradients by hidden and items.
SumAndGradients = Callable[[Tensor, Tensor, torch.dtype], tuple[Tensor, Tensor, Tensor]]


def _mean(hidden: Tensor, items: Tensor, found: SumAndGradients) -> Tensor:
    """The mean over the places, which can be differentiated once."""
    return _Mean.apply(hidden, items, found)  # type: ignore[no-any-return, no-untyped-call]


class _Mean(torch.autograd.Function):
    """A loss whose gradients are ready when its value is."""

    @staticmethod
    def forward(context: Any, hidden: Tensor, items: Tensor, found: SumAndGradients) -> Tensor:
        device = hidden.device.type
        low = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else items.dtype
        with torch.autocast(device, enabled=False):
            total, of_hidden, of_items = found(hidden, items, low)
        count = max(1, len(hidden))
        context.save_for_backward(of_hidden.div_(count), of_items.div_(count))
        context.dtypes = hidden.dtype, items.dtype
        return total / count

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        of_hidden, of_items = context.saved_tensors
        type_hidden, type_items = context.dtypes
        (scale,) = gradients
        return (of_hidden * scale).to(type_hidden), (of_items * scale).to(type_items), None


def _against_all(hidden: Tensor, items: Tensor, low: torch.dtype, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The sum of the losses, and its gradients by ``hidden`` and ``items``."""
    weights, states, chunks = items.to(low), *_whole_chunks(hidden.to(low), len(items))
    total = torch.zeros((), dtype=torch.float32, device=hidden.device)
    of_hidden, of_items = torch.empty_like(states), torch.zeros_like(items, dtype=torch.float32)
    for chunk in chunks:
        wanted, logits = targets[chunk, None], states[chunk] @ weights.T
        positive = logits.gather(1, _filled(wanted, len(logits))).float()
        shares, total_share, normalizer = _shares(logits)
        total += (normalizer - positive)[: len(wanted)].sum()
        of_items += shares.T @ (states[chunk] / total_share).to(low)  # states are 0 where the chunk is filled up
        torch.div(shares @ weights, total_share, out=of_hidden[chunk])
    gradient = of_hidden[: len(hidden)].float().sub_(weights[targets])
    of_items.index_add_(0, targets, states[: len(hidden)].float(), alpha=-1)
    return total, gradient, of_items


def _against_some(
    hidden: Tensor, items: Tensor, low: torch.dtype, targets: Tensor, drawn: Tensor, offset: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The same where only the target and the ``drawn`` items (sorted, each once) take part."""
    weights, shift = _whole_columns(items[drawn].to(low), offset.to(low))
    states, chunks = _whole_chunks(hidden.to(low), len(weights))
    positives = items[targets].to(low)
    positive = (states[: len(hidden)] * positives).sum(1, keepdim=True, dtype=torch.float32)
    column = torch.searchsorted(drawn, targets).clamp_(max=len(drawn) - 1)
    hit = drawn[column] == targets
    of_drawn, of_hidden = (
        torch.zeros(weights.shape, dtype=torch.float32, device=hidden.device),
        torch.empty_like(states),
    )
    share = torch.zeros(len(states), 1, dtype=torch.float32, device=hidden.device)
    total = torch.zeros((), dtype=torch.float32, device=hidden.device)
    for chunk in chunks:
        start, stop = chunk.start, min(chunk.stop, len(hidden))
        logits = torch.addmm(shift, states[chunk], weights.T)
        rows = hit[start:stop].nonzero()[:, 0]
        logits[rows, column[start:stop][rows]] = -torch.inf
        shares, total_share, normalizer = _shares(logits)
        normalizer = normalizer[: stop - start]
        whole = torch.logaddexp(normalizer, positive[start:stop])
        total += (whole - positive[start:stop]).sum()
        # How much of the whole sum the negatives have; the rest is the target's.
        share[start:stop] = (normalizer - whole).exp()
        of_drawn += shares.T @ (states[chunk] * (share[chunk] / total_share)).to(low)
        torch.div(shares @ weights, total_share, out=of_hidden[chunk])
    share = share[: len(hidden)]
    gradient = of_hidden[: len(hidden)].float().sub_(positives).mul_(share)
    of_items = torch.zeros(items.shape, dtype=torch.float32, device=items.device)
    of_items.index_add_(0, drawn, of_drawn[: len(drawn)])
    of_items.index_add_(0, targets, states[: len(hidden)].float() * share, alpha=-1)
    return total, gradient, of_items


def _shares(logits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """What each logit of a row has beside the highest, in place of the logits; their sum; and log sum exp of the row.

    The softmax is the first divided by the second, which is cheaper done on the narrow side of a product. Sum and
    logarithm are (rows, 1) in float32. In a row of -inf alone all shares are 0, and so little that it vanishes beside
    any score is its logarithm.
    """
    highest = logits.amax(1, keepdim=True).clamp_(min=torch.finfo(logits.dtype).min)
    shares = logits.sub_(highest).exp_()
    total = shares.sum(1, keepdim=True, dtype=torch.float32).clamp_(min=torch.finfo(torch.float32).tiny)
    return shares, total, highest.float() + total.log()


def _whole_chunks(states: Tensor, columns: int) -> tuple[Tensor, list[slice]]:
    """The states filled up with zeros, and the chunks of them, each as long as a power of two.

    The libraries under torch make a plan for every shape of product that they meet, which takes a millisecond, and keep
    it; with another number of places in each batch those plans would pile up to gigabytes.
    """
    size = 1 << max(3, (CHUNK_LOGITS // max(1, columns)).bit_length() - 1)
    size = min(size, 4096)
    states = nn.functional.pad(states, (0, 0, 0, -len(states) % min(size, LEAST_CHUNK)))
    chunks, start = [], 0
    while start < len(states):
        while size > len(states) - start:
            size //= 2
        chunks.append(slice(start, start + size))
        start += size
    return states, chunks


def _whole_columns(weights: Tensor, offset: Tensor) -> tuple[Tensor, Tensor]:
    """Item vectors filled up with zeros, for the same reason, and the offsets with -inf: the filling has no weight."""
    missing = -len(weights) % LEAST_CHUNK
    return nn.functional.pad(weights, (0, 0, 0, missing)), nn.functional.pad(offset, (0, missing), value=-torch.inf)


def _filled(wanted: Tensor, size: int) -> Tensor:
    return nn.functional.pad(wanted, (0, 0, 0, size - len(wanted)))


# From the score of the target (places, 1), those of negatives (places, negatives) and the softmax of these to the
# losses (places,) and their slopes by both sorts of scores.
Pairwise = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]


def bpr_max(
    hidden: Tensor,
    items: Tensor,
    targets: Tensor,
    negatives: Tensor,
    *,
    regularization: float = 1.0,
    elu: float = 0.0,
) -> Tensor:
    """Mean of -log(sum of s_j sigmoid(r_target - r_j)) + regularization * sum of s_j r_j^2 over the negatives j.

    r are scores and s the softmax of those of the negatives, so that the loss looks at the negatives that are nearest
    to being recommended. In chunks like ``full_softmax``, with both gradients taken in the forward pass.

    Args:
        hidden: (places, dim) states to predict from.
        items: (items, dim) item vectors.
        targets: (places,) indices of the items that came next.
        negatives: (negatives,) indices that all places share, with or without repetition; one that is a place's target
            does not count there. A place that has no other negative costs nothing.
        regularization: What the squares of the negatives' scores count.
        elu: Above 0 scores below 0 are bent to elu * (exp(score) - 1), before all else.

    Returns:
        A scalar.

    Source: Hidasi, Karatzoglou, "Recurrent Neural Networks with Top-k Gains for Session-based Recommendations", CIKM
        2018, eq. 10; ELU and the 1e-24 added within the logarithm are of the authors' code. Differs: there a target met
        among the negatives, as that of another place, counts like any other.
    """
    pairwise = partial(_bpr_max, regularization=regularization)
    return _mean(
        hidden, items, partial(_against_pairs, targets=targets, negatives=negatives, pairwise=pairwise, elu=elu)
    )


def top1_max(
    hidden: Tensor,
    items: Tensor,
    targets: Tensor,
    negatives: Tensor,
    *,
    regularization: float = 1.0,
    elu: float = 0.0,
) -> Tensor:
    """Mean of the sum of s_j (sigmoid(r_j - r_target) + regularization * sigmoid(r_j^2)) over the negatives j.

    The arguments, and the s of the negatives, are those of ``bpr_max``.

    Source: Hidasi, Karatzoglou, CIKM 2018, eq. 8, where the regularization is 1. Differs as ``bpr_max`` does.
    """
    pairwise = partial(_top1_max, regularization=regularization)
    return _mean(
        hidden, items, partial(_against_pairs, targets=targets, negatives=negatives, pairwise=pairwise, elu=elu)
    )


def _bpr_max(positive: Tensor, scores: Tensor, weights: Tensor, regularization: float) -> tuple[Tensor, Tensor, Tensor]:
    above = torch.sigmoid(positive - scores)
    won = (weights * above).sum(1, keepdim=True)
    squares = (weights * scores.square()).sum(1, keepdim=True)
    losses = regularization * squares - (won + 1e-24).log()
    steepness = 1 / (won + 1e-24)
    of_positive = -steepness * (weights * above * (1 - above)).sum(1, keepdim=True)
    of_scores = steepness * (won - above.square()) + regularization * (scores * (scores + 2) - squares)
    return losses[:, 0], of_positive, of_scores.mul_(weights)


def _top1_max(
    positive: Tensor, scores: Tensor, weights: Tensor, regularization: float
) -> tuple[Tensor, Tensor, Tensor]:
    above, large = torch.sigmoid(scores - positive), torch.sigmoid(scores.square())
    costs = above + regularization * large
    losses = (weights * costs).sum(1, keepdim=True)
    slopes = above * (1 - above)
    of_positive = -(weights * slopes).sum(1, keepdim=True)
    of_scores = costs - losses + slopes + 2 * regularization * scores * large * (1 - large)
    return losses[:, 0], of_positive, of_scores.mul_(weights)


def _against_pairs(
    hidden: Tensor,
    items: Tensor,
    low: torch.dtype,
    targets: Tensor,
    negatives: Tensor,
    pairwise: Pairwise,
    elu: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """The sum of the losses, and its gradients by ``hidden`` and ``items``."""
    drawn, counts = torch.unique(negatives, return_counts=True)
    # Several arrays of the size of the logits are in use here at a time, so chunks are smaller.
    weights, offset = _whole_columns(items[drawn].to(low), counts.log())
    states, chunks = _whole_chunks(hidden.to(low), 4 * len(weights))
    positives = items[targets].to(low)
    positive = (states[: len(hidden)] * positives).sum(1, keepdim=True, dtype=torch.float32)
    column = torch.searchsorted(drawn, targets).clamp_(max=len(drawn) - 1)
    hit = drawn[column] == targets
    total = torch.zeros((), dtype=torch.float32, device=hidden.device)
    of_hidden, of_positive = torch.empty_like(states), torch.zeros_like(positive)
    of_drawn = torch.zeros(weights.shape, dtype=torch.float32, device=hidden.device)
    for chunk in chunks:
        here, size = slice(chunk.start, min(chunk.stop, len(hidden))), chunk.stop - chunk.start
        scores, slopes = _bent((states[chunk] @ weights.T).float(), elu)
        wanted, wanted_slopes = _bent(_filled(positive[here], size), elu)
        masked = scores + offset
        rows = hit[here].nonzero()[:, 0]
        masked[rows, column[here][rows]] = -torch.inf
        shares = torch.softmax(masked, 1)
        losses, of_wanted, of_scores = pairwise(wanted, scores, shares.nan_to_num_(0) if len(drawn) == 1 else shares)
        count = here.stop - here.start
        if len(drawn) == 1:  # where it is the target, there is nothing to be better than
            losses[:count][hit[here]] = 0
        total += losses[:count].sum()
        of_positive[here] = (of_wanted * wanted_slopes)[:count]
        pull = of_scores.mul_(slopes).to(low)
        of_drawn += pull.T @ states[chunk]  # states are 0 where the chunk is filled up
        torch.mm(pull, weights, out=of_hidden[chunk])
    of_items = torch.zeros(items.shape, dtype=torch.float32, device=items.device)
    of_items.index_add_(0, drawn, of_drawn[: len(drawn)])
    of_items.index_add_(0, targets, states[: len(hidden)].float() * of_positive)
    return total, of_hidden[: len(hidden)].float().addcmul_(of_positive, positives.float()), of_items


def _bent(scores: Tensor, elu: float) -> tuple[Tensor, Tensor]:
    """Scores after ELU, and its slopes; by 0 they stay as they are."""
    if not elu:
        return scores, torch.ones((), device=scores.device)
    bent = nn.functional.elu(scores, elu)
    return bent, torch.where(bent > 0, 1.0, bent + elu)
