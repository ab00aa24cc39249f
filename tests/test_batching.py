"""Windows and batches: every event is learned from once, and no batch is too large."""

import itertools
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from foretaste.batching import SequenceBatches, Sequences, _least_padding
from foretaste.catalog import NO_TIME
from foretaste.ragged import PAD, Ragged

LENGTHS = st.lists(st.integers(0, 17), max_size=8)


def numbered(lengths) -> Ragged:
    """Every event has a number of its own."""
    return Ragged.from_lengths(np.arange(sum(lengths), dtype=np.int32), np.array(lengths, np.int64))


def windows(rows: Ragged, length: int) -> Sequences:
    return Sequences(rows).windows(length)


def pairs(batch):
    """(event, the one that came next) of all places to be predicted."""
    wanted = batch.targets != PAD
    return list(zip(batch.history.items[wanted].tolist(), batch.targets[wanted].tolist(), strict=True))


@given(LENGTHS, st.integers(1, 6))
def test_each_event_but_the_first_of_a_row_is_a_target_once(lengths, length):
    cut = windows(numbered(lengths), length).items
    targets = Counter(each for window in cut.lists() for each in window[1:])
    expected = [each for row in numbered(lengths).lists() for each in row[1:]]
    assert targets == Counter(expected)
    assert all(2 <= len(window) <= length + 1 for window in cut.lists())
    assert all(window == list(range(window[0], window[0] + len(window))) for window in cut.lists())


def test_windows_are_cut_from_the_end():
    cut = windows(Ragged.from_lists([[1, 2, 3, 4, 5], [6], [7, 8, 9, 10]]), 2).items
    assert sorted(cut.lists()) == [[1, 2, 3], [3, 4, 5], [7, 8], [8, 9, 10]]


@given(LENGTHS, st.integers(1, 6), st.integers(1, 30), st.integers(0, 3))
def test_an_epoch_predicts_each_next_event_once_within_the_budget(lengths, length, tokens, seed):
    rows = numbered(lengths)
    batches = SequenceBatches(windows(rows, length), tokens, np.random.default_rng(seed))
    seen = Counter(pair for batch in batches for pair in pairs(batch))
    assert seen == Counter((each - 1, each) for row in rows.lists() for each in row[1:])
    assert sum(map(len, batches)) == seen.total()
    for batch in batches:
        assert batch.history.items.shape == batch.targets.shape
        assert batch.history.items.numel() <= tokens or len(batch.history) == 1
        assert batch.history.items.dtype == batch.targets.dtype == torch.int64
        # Padding only on the right, and no place is wider than the longest row needs.
        assert ((batch.targets == PAD).long().diff(dim=1) >= 0).all()
        assert (batch.targets != PAD).any(dim=0).all()


@pytest.fixture
def sequences() -> Sequences:
    return windows(numbered([9, 3, 5, 2, 8, 8, 4, 6, 7, 2, 3] * 3), 10)


def epoch(sequences, seed):
    return [batch.history.items.tolist() for batch in SequenceBatches(sequences, 40, np.random.default_rng(seed))]


def test_the_same_stream_gives_the_same_batches_and_another_gives_others(sequences):
    assert epoch(sequences, 1) == epoch(sequences, 1)
    assert epoch(sequences, 1) != epoch(sequences, 2)


def test_neighbours_change_between_epochs_not_only_the_order_of_batches(sequences):
    first, second = ({str(sorted(batch)) for batch in epoch(sequences, seed)} for seed in (1, 2))
    assert first != second


def test_a_batch_can_be_asked_for_by_number(sequences):
    batches = SequenceBatches(sequences, 40, np.random.default_rng(1))
    assert len(batches) == len(list(batches))
    assert torch.equal(batches[2].history.items, list(batches)[2].history.items)


def test_little_is_padding(sequences):
    batches = list(SequenceBatches(sequences, 40, np.random.default_rng(1)))
    assert sum(map(len, batches)) / sum(batch.history.items.numel() for batch in batches) > 0.8


def test_nothing_to_learn_from_is_no_batches():
    batches = SequenceBatches(windows(numbered([1, 0, 1]), 5), 10, np.random.default_rng(0))
    assert len(batches) == 0
    assert list(batches) == []


def test_batches_have_few_widths_and_none_beyond_the_longest_sequence():
    lengths = np.arange(2, 102)
    sequences = Sequences(Ragged.from_lengths(np.zeros(lengths.sum(), np.int32), lengths))
    widths = {batch.history.items.shape[1] for batch in SequenceBatches(sequences, 400, np.random.default_rng(0))}
    assert len(widths) <= 16
    assert max(widths) == 100


@given(st.lists(st.integers(1, 12), min_size=1, max_size=20), st.integers(1, 4))
def test_no_other_choice_of_so_many_widths_pads_less(lengths, most):
    lengths = np.array(lengths)
    chosen = _least_padding(lengths, most)
    candidates = np.unique(lengths)
    others = [
        np.array([*few, candidates[-1]])
        for few in itertools.combinations(candidates[:-1], min(most, len(candidates)) - 1)
    ]

    def places(widths):
        return widths[np.searchsorted(widths, lengths)].sum()

    assert len(chosen) <= most
    assert chosen[-1] == lengths.max()
    assert places(chosen) == min(map(places, others))


def test_thousands_of_different_lengths_are_no_great_work():
    lengths = np.arange(1, 20_001)
    chosen = _least_padding(lengths, 16)
    assert len(chosen) == 16
    assert chosen[-1] == 20_000
    assert chosen[np.searchsorted(chosen, lengths)].sum() < 1.08 * lengths.sum()


def test_short_sequences_are_not_padded_for_a_few_long_ones():
    lengths = np.array([2] * 500 + [3] * 300 + [5] * 100 + [60, 80, 100, *range(20, 50)])
    sequences = Sequences(Ragged.from_lengths(np.zeros(lengths.sum(), np.int32), lengths))
    batches = list(SequenceBatches(sequences, 200, np.random.default_rng(0)))
    assert sum(map(len, batches)) / sum(batch.history.items.numel() for batch in batches) > 0.9


def beside(lengths) -> Sequences:
    """Everything beside an event follows from its number; row r belongs to user 100 + r."""
    rows = numbered(lengths)
    number = rows.values.astype(np.int64)
    return Sequences(
        rows,
        times=number * 1000,
        kinds=(number % 3).astype(np.int8),
        values=(number / 2).astype(np.float32),
        user=np.arange(100, 100 + len(rows), dtype=np.int32),
    )


def test_what_stands_beside_an_event_stays_with_it_through_windows_and_batches():
    lengths = [9, 1, 25, 2, 7]
    owner = numbered(lengths).row_of_value() + 100
    for batch in SequenceBatches(beside(lengths).windows(6), 20, np.random.default_rng(0)):
        for events, there in ((batch.history, batch.history.items != PAD), (batch.following, batch.targets != PAD)):
            items = events.items[there]
            assert torch.equal(events.times[there], items * 1000)
            assert torch.equal(events.kinds[there], items % 3)
            assert torch.equal(events.values[there], items / 2)
        assert batch.history.user.tolist() == owner[batch.history.items[:, 0]].tolist()
        assert batch.history.values[batch.history.items == PAD].isnan().all()
        assert (batch.history.kinds[batch.history.items == PAD] == PAD).all()


def test_the_last_events_keep_what_stands_beside_them():
    last = beside([9, 0, 2]).last(3)
    assert last.items.lists() == [[6, 7, 8], [], [9, 10]]
    assert last.times.tolist() == [6000, 7000, 8000, 9000, 10000]
    assert last.user.tolist() == [100, 101, 102]


def test_only_what_is_asked_for_is_carried():
    kept = beside([4, 4]).only(times=True)
    assert kept.times is not None
    assert kept.kinds is kept.values is kept.user is None
    padded = kept.padded()
    assert padded.kinds is padded.values is padded.user is None


def test_a_batch_goes_to_a_device_whole():
    batch = SequenceBatches(beside([5, 3]).windows(4), 20, np.random.default_rng(0))[0]
    moved = batch.to(torch.device("meta"))
    assert {each.device.type for each in vars(moved.history).values()} == {"meta"}
    assert moved.targets.device.type == "meta"


def test_an_unknown_time_stays_unknown():
    rows = Sequences(Ragged.from_lists([[1, 2]]), times=np.array([NO_TIME, 5]))
    assert rows.padded().times.tolist() == [[NO_TIME, 5]]
