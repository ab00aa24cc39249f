"""Masked batches: who is hidden, how often, and that a batch is the same whenever it is asked for."""

import numpy as np
import pytest
import torch

from foretaste.batching import Sequences
from foretaste.masking import MaskedBatches, hidden_places
from foretaste.ragged import PAD, Ragged


def numbered(lengths) -> Sequences:
    return Sequences(Ragged.from_lengths(np.arange(sum(lengths), dtype=np.int32), np.array(lengths, np.int64)))


def batches(lengths, seed=0, tokens=60, **settings):
    return MaskedBatches(numbered(lengths), tokens, np.random.default_rng(seed), **{"rate": 0.3, **settings})


LENGTHS = [9, 3, 5, 1, 8, 8, 4, 6, 7, 2, 3] * 20


@pytest.mark.parametrize("rate", [0.0, 0.05, 0.3, 1.0])
@pytest.mark.parametrize("last_share", [0.0, 0.5, 1.0])
def test_each_sequence_hides_something_and_never_padding(rate, last_share):
    for batch in batches(LENGTHS, rate=rate, last_share=last_share):
        assert batch.masked.any(1).all()
        assert not batch.masked[batch.history.items == PAD].any()
        assert torch.equal(batch.targets != PAD, batch.masked)
        assert torch.equal(batch.targets[batch.masked], batch.history.items[batch.masked])
        assert len(batch) == batch.masked.sum()
        assert batch.history.items.numel() <= 60


def test_so_many_are_hidden_as_was_asked_for():
    long = [200] * 300
    hidden = sum(len(batch) for batch in batches(long, rate=0.2, tokens=4000))
    assert hidden / sum(long) == pytest.approx(0.2, abs=0.01)


def test_a_share_of_the_sequences_hides_its_last_event_alone():
    alone = [
        row.sum() == 1 and bool(row[length - 1])
        for batch in batches([50] * 2000, rate=0.5, last_share=0.3, tokens=2000)
        for row, length in zip(batch.masked, batch.history.lengths.tolist(), strict=True)
    ]
    assert np.mean(alone) == pytest.approx(0.3, abs=0.04)


def test_each_sequence_comes_as_often_as_asked_with_other_events_hidden():
    seen: dict[int, list[tuple[bool, ...]]] = {}
    for batch in batches([20] * 30, repeats=4, tokens=100):
        for items, hidden in zip(batch.history.items.tolist(), batch.masked.tolist(), strict=True):
            seen.setdefault(items[0], []).append(tuple(hidden))
    assert {len(each) for each in seen.values()} == {4}
    assert np.mean([len(set(each)) for each in seen.values()]) > 3.5


def test_a_batch_is_the_same_whichever_was_asked_for_before():
    one, two = batches(LENGTHS), batches(LENGTHS)
    list(one)
    assert torch.equal(one[3].masked, two[3].masked)
    assert torch.equal(one[3].history.items, two[3].history.items)
    assert not torch.equal(one[3].masked, batches(LENGTHS, seed=1)[3].masked[: len(one[3].masked)])


@pytest.mark.parametrize("rate", [0.0, 0.5, 0.95, 1.0])
def test_chance_never_hides_all_of_several_events(rate):
    for batch in batches(LENGTHS, rate=rate):
        lengths, count = batch.history.lengths, batch.masked.sum(1)
        assert (count < lengths)[lengths > 1].all()
        if rate in (0.0, 1.0):  # nothing or everything by chance: the last event alone
            assert (count == 1).all()
            assert torch.equal(batch.masked.int().argmax(1), lengths - 1)


def test_hidden_places_stand_in_order_and_in_few_shapes():
    masked = torch.rand(20, 50, generator=torch.Generator().manual_seed(0)) < torch.linspace(0, 1, 20)[:, None]
    places, there = hidden_places(masked)
    for row in range(20):
        assert places[row, there[row]].tolist() == masked[row].nonzero()[:, 0].tolist()
        assert len(set(places[row].tolist())) == places.shape[1]
    shapes = {hidden_places(torch.arange(50)[None] < count)[0].shape[1] for count in range(1, 51)}
    assert len(shapes) <= 16
    assert max(shapes) == 50
    assert hidden_places(torch.ones(3, 1, dtype=torch.bool))[0].tolist() == [[0]] * 3
