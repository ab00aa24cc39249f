"""Windows and batches: every event is learned from once, and no batch is too large."""

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from foretaste.batching import SequenceBatches, windows
from foretaste.ragged import PAD, Ragged

LENGTHS = st.lists(st.integers(0, 17), max_size=8)


def numbered(lengths) -> Ragged:
    """Every event has a number of its own."""
    return Ragged.from_lengths(np.arange(sum(lengths), dtype=np.int32), np.array(lengths, np.int64))


def pairs(batch):
    """(event, the one that came next) of all places to be predicted."""
    wanted = batch.targets != PAD
    return list(zip(batch.history[wanted].tolist(), batch.targets[wanted].tolist(), strict=True))


@given(LENGTHS, st.integers(1, 6))
def test_each_event_but_the_first_of_a_row_is_a_target_once(lengths, length):
    cut = windows(numbered(lengths), length)
    targets = Counter(each for window in cut.lists() for each in window[1:])
    expected = [each for row in numbered(lengths).lists() for each in row[1:]]
    assert targets == Counter(expected)
    assert all(2 <= len(window) <= length + 1 for window in cut.lists())
    assert all(window == list(range(window[0], window[0] + len(window))) for window in cut.lists())


def test_windows_are_cut_from_the_end():
    cut = windows(Ragged.from_lists([[1, 2, 3, 4, 5], [6], [7, 8, 9, 10]]), 2)
    assert sorted(cut.lists()) == [[1, 2, 3], [3, 4, 5], [7, 8], [8, 9, 10]]


@given(LENGTHS, st.integers(1, 6), st.integers(1, 30), st.integers(0, 3))
def test_an_epoch_predicts_each_next_event_once_within_the_budget(lengths, length, tokens, seed):
    rows = numbered(lengths)
    batches = SequenceBatches(windows(rows, length), tokens, np.random.default_rng(seed))
    seen = Counter(pair for batch in batches for pair in pairs(batch))
    assert seen == Counter((each - 1, each) for row in rows.lists() for each in row[1:])
    assert sum(map(len, batches)) == seen.total()
    for batch in batches:
        assert batch.history.shape == batch.targets.shape
        assert batch.history.numel() <= tokens or len(batch.history) == 1
        assert batch.history.dtype == batch.targets.dtype == torch.int64
        # Padding only on the right, and no place is wider than the longest row needs.
        assert ((batch.targets == PAD).long().diff(dim=1) >= 0).all()
        assert (batch.targets != PAD).any(dim=0).all()


@pytest.fixture
def sequences() -> Ragged:
    return windows(numbered([9, 3, 5, 2, 8, 8, 4, 6, 7, 2, 3] * 3), 10)


def epoch(sequences, seed):
    return [batch.history.tolist() for batch in SequenceBatches(sequences, 40, np.random.default_rng(seed))]


def test_the_same_stream_gives_the_same_batches_and_another_gives_others(sequences):
    assert epoch(sequences, 1) == epoch(sequences, 1)
    assert epoch(sequences, 1) != epoch(sequences, 2)


def test_neighbours_change_between_epochs_not_only_the_order_of_batches(sequences):
    first, second = ({str(sorted(batch)) for batch in epoch(sequences, seed)} for seed in (1, 2))
    assert first != second


def test_a_batch_can_be_asked_for_by_number(sequences):
    batches = SequenceBatches(sequences, 40, np.random.default_rng(1))
    assert len(batches) == len(list(batches))
    assert torch.equal(batches[2].history, list(batches)[2].history)


def test_little_is_padding(sequences):
    batches = list(SequenceBatches(sequences, 40, np.random.default_rng(1)))
    assert sum(map(len, batches)) / sum(batch.history.numel() for batch in batches) > 0.8


def test_nothing_to_learn_from_is_no_batches():
    batches = SequenceBatches(windows(numbered([1, 0, 1]), 5), 10, np.random.default_rng(0))
    assert len(batches) == 0
    assert list(batches) == []


def test_batches_have_few_widths_and_none_beyond_the_longest_sequence():
    lengths = np.arange(2, 102)
    sequences = Ragged.from_lengths(np.zeros(lengths.sum(), np.int32), lengths)
    widths = {batch.history.shape[1] for batch in SequenceBatches(sequences, 400, np.random.default_rng(0))}
    assert len(widths) <= 16
    assert max(widths) == 100
