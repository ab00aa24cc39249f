"""What the machine is, and what a run would take."""

import json
import resource
import sys

import numpy as np
import pytest

from foretaste.doctor import examine
from foretaste.errors import ConfigError
from foretaste.memory import available_memory, forget_peak, freed_memory_kept, peak_memory
from foretaste.models import MODELS


def test_the_machine_is_described_and_can_be_written_as_json() -> None:
    report = examine()
    assert report.counts is None
    assert report.needed_gib == {}
    assert report.devices[0] == "cpu"
    assert report.precision in ("fp32", "bf16")
    assert 1 <= report.threads <= 4096
    assert json.loads(json.dumps(report.to_json()))["processors"] == report.processors
    assert "memory to fit" not in report.text()


def test_memory_is_predicted_for_every_model_and_grows_with_the_counts() -> None:
    small, large = examine(1000, 1000, 10_000), examine(100_000, 100_000, 100_000_000)
    assert set(small.needed_gib) == set(MODELS)
    for name, needed in small.needed_gib.items():
        assert 0 <= needed < large.needed_gib[name]
    assert "memory to fit on 100,000 users, 100,000 items, 100,000,000 events" in large.text()


def test_what_does_not_fit_is_marked() -> None:
    line = next(each for each in examine(10, 10_000_000, 100).text().splitlines() if each.strip().startswith("ease"))
    assert line.endswith("more than there is")


@pytest.mark.parametrize("counts", [(5, None, None), (None, 5, 5), (5, 5, None)])
def test_half_of_the_counts_predict_nothing(counts: tuple[int | None, ...]) -> None:
    with pytest.raises(ConfigError, match="give all of --users, --items and --events"):
        examine(*counts)


def test_memory_that_training_kept_is_given_back() -> None:
    with freed_memory_kept():
        block = bytearray(200 * 2**20)
        block[::4096] = b"x" * len(block[::4096])
        del block
    if not forget_peak():
        pytest.skip("this system cannot measure a peak anew")
    before = peak_memory()
    block = bytearray(200 * 2**20)
    block[::4096] = b"x" * len(block[::4096])
    assert peak_memory() > before + 100 * 2**20


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only glibc has these thresholds")
def test_large_arrays_are_not_asked_of_the_system_each_time_after_training() -> None:
    with freed_memory_kept():
        pass
    pages, times = 2**20 * 8 // resource.getpagesize(), 20
    np.ones(2**20)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(times):
        np.ones(2**20)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before < times * pages / 4


def test_the_peak_sees_what_was_held_and_can_be_forgotten() -> None:
    block = bytearray(200 * 2**20)
    block[::4096] = b"x" * len(block[::4096])
    high = peak_memory()
    del block
    if not forget_peak():
        pytest.skip("this system cannot measure a peak anew")
    assert peak_memory() < high - 100 * 2**20
    assert (available_memory() or 1) > 0
