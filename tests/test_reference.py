"""The committed numbers of the baselines on published data."""

import json
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def reference(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import reference

    return reference


@pytest.mark.data
@pytest.mark.slow
def test_baselines_give_exactly_the_committed_numbers(reference: ModuleType, published: Path) -> None:
    expected = json.loads((BENCHMARKS / "expected" / "ml-1m-sasrec.json").read_text(encoding="utf-8"))["splits"]
    found = reference.measured(cross_check=False)
    assert "all" in found
    assert reference.differences(found, expected) == []


def test_a_number_that_moved_is_named(reference: ModuleType) -> None:
    expected = {"all": {"digest": "d", "models": {"popular": {"hit@10": 0.25}}}}
    assert reference.differences(expected, expected) == []
    moved = {"all": {"digest": "e", "models": {"popular": {"hit@10": 0.250000000001}}}}
    assert reference.differences(moved, expected) == [
        "split all: the digest is e, it should be d",
        "split all, popular, hit@10: 0.250000000001, it should be 0.25",
    ]
