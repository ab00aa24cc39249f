"""Identifiers: they stay what they were, and are found whichever type they are asked with."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foretaste.errors import DataError
from foretaste.ragged import PAD
from foretaste.vocab import Strings, Vocab

TEXT = st.text(st.characters(), max_size=12)  # any character, lone surrogates included
INTEGERS = st.integers(-(2**63), 2**63 - 1)
ODD_NAMES = ["a,b", 'say "hi"', "two\nlines", "naïve", "🛒", "", " ", "\ud800", "0", "-1", "None"]


@given(st.lists(TEXT, max_size=15))
def test_text_comes_back_to_the_letter(texts):
    strings = Strings.from_list(texts)
    assert strings.lists() == texts
    assert [strings[row] for row in range(len(texts))] == texts
    backwards = np.arange(len(texts))[::-1]
    assert strings.take(backwards).lists() == texts[::-1]


@given(st.one_of(st.lists(TEXT, max_size=15), st.lists(INTEGERS, max_size=15)))
def test_each_identifier_is_found_at_its_place(ids):
    vocab = Vocab.from_ids(ids)
    assert vocab.lists() == sorted(set(ids))
    index = vocab.index(ids)
    assert index.dtype == np.int32
    assert vocab.lookup(index) == ids
    assert [vocab[each] for each in index] == ids


@given(st.one_of(st.lists(TEXT, unique=True, max_size=9), st.lists(INTEGERS, unique=True, max_size=9)))
def test_arrays_hold_all_there_is_in_any_order(ids):
    whole = Vocab(Strings.from_list(ids)) if ids and isinstance(ids[0], str) else Vocab(np.array(ids, np.int64))
    again = Vocab.from_arrays(whole.arrays())
    assert again.lists() == ids
    assert again.index(ids).tolist() == list(range(len(ids)))


def test_names_with_odd_signs_are_kept_apart():
    vocab = Vocab.from_ids(ODD_NAMES)
    assert len(vocab) == len(ODD_NAMES)
    assert vocab.lookup(vocab.index(ODD_NAMES)) == ODD_NAMES


def test_an_integer_is_found_as_text_and_text_as_an_integer():
    numbers, texts = Vocab.from_ids([5, 17, -3]), Vocab.from_ids(["17", "x"])
    assert numbers.index(["17", 17, 17.0, np.int32(5), " 5", "-3"]).tolist() == [2, 2, 2, 1, 1, 0]
    assert texts.index([17, "17", "x", np.int64(17)]).tolist() == [0, 0, 1, 0]


@pytest.mark.parametrize("unknown", ["007", "1e1", "x", "", None, 7.5, float("nan"), float("inf"), True, 2**70, "٧"])
def test_what_is_no_integer_of_the_vocabulary_is_unknown(unknown):
    assert Vocab.from_ids([0, 1, 7, 10]).index([unknown]).tolist() == [PAD]


def test_an_unsigned_array_does_not_wrap_around():
    assert Vocab.from_ids([-1, 3]).index(np.array([2**64 - 1, 3], np.uint64)).tolist() == [PAD, 1]


def test_an_empty_vocabulary_knows_nothing():
    for vocab in (Vocab.from_ids([]), Vocab(Strings.from_list([]))):
        assert len(vocab) == 0
        assert vocab.index(["a", "1"]).tolist() == [PAD, PAD]
        assert vocab.lookup(np.empty(0, np.int32)) == []


def test_mixed_types_are_refused():
    with pytest.raises(DataError, match="must be all integers or all text; these are int and str"):
        Vocab.from_ids([1, "a"])


def test_an_integer_beyond_64_bits_is_refused():
    with pytest.raises(DataError, match="18446744073709551616 does not fit into 64 bits; read the column as text"):
        Vocab.from_ids([1, 2**64])


def test_new_identifiers_are_appended_once_and_old_indices_stay():
    assert Vocab.from_ids(["b", "a"]).extended(["c", "a", "0", "c"]).lists() == ["a", "b", "c", "0"]
    assert Vocab.from_ids([2, 1]).extended(["9", 1, 0, 9]).lists() == [1, 2, 9, 0]
    with pytest.raises(DataError, match="Text identifiers cannot be added"):
        Vocab.from_ids([1]).extended(["a"])


def test_indices_of_another_vocabulary_are_renumbered():
    own, other = Vocab.from_ids(["b", "d", "a"]), Vocab(Strings.from_list(["d", "c", "a"]))
    assert own.renumbered(np.array([2, PAD, 0, 1, 2, 7]), other).tolist() == [0, PAD, 2, PAD, 0, PAD]
    assert own.renumbered(np.array([2, PAD, 0, 3]), None).tolist() == [2, PAD, 0, PAD]
    assert own.renumbered(np.array([PAD]), other).tolist() == [PAD]
