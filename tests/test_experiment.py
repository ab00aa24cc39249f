"""A whole run, in its parts: what is kept of the data, and that epochs are chosen by what is judged."""

import numpy as np
import pytest
from pydantic import ValidationError

from foretaste import split
from foretaste.dataset import Dataset
from foretaste.errors import DataError
from foretaste.experiment import carry_out, judged_as, load_data, prepare
from foretaste.query import Holdout
from foretaste.recipe import DataSettings, EvaluationSettings, Recipe
from foretaste.run import Run
from foretaste.simulate import Shop
from foretaste.storage import read_json
from foretaste.validation import ndcg_at_10

SHOP = Shop(users=40, items=64, events=600, categories=4)


def test_validation_hides_what_the_evaluation_hides(shop: Dataset) -> None:
    parts = judged_as(split.leave_one_out(shop), EvaluationSettings(exclude_kinds=("purchase",)))
    assert isinstance(parts.validation, Holdout)
    assert parts.validation.exclude_kinds == parts.test.exclude_kinds == ("purchase",)
    off = judged_as(split.leave_one_out(shop), EvaluationSettings(filter_seen=False))
    assert (off.filter_seen, off.validation.filter_seen, off.test.filter_seen) == (False, False, False)


def test_the_score_that_chooses_epochs_hides_only_the_named_kinds(shop: Dataset) -> None:
    asked: list[dict[str, object]] = []

    class Listener:
        def recommend(self, queries, k, **options):
            asked.append(options)
            from foretaste import Popular

            return Popular().fit(shop).recommend(queries, k)

    parts = judged_as(split.leave_one_out(shop), EvaluationSettings(exclude_kinds=("purchase",)))
    ndcg_at_10(Listener(), parts.validation)
    assert asked == [{"filter_seen": True, "exclude_kinds": ("purchase",), "items": None}]


def test_how_many_events_are_left_out_is_said() -> None:
    said: list[str] = []
    run = Run(log=lambda message, numbers=None: said.append(message))
    loaded = load_data(DataSettings(shop=SHOP, keep_kinds=("view",)), "leave_one_out", None, run)
    everything = load_data(DataSettings(shop=SHOP), "leave_one_out", None, Run()).data
    left_out = int(np.count_nonzero(everything.kind))
    assert len(loaded.data) == len(everything) - left_out
    assert said == [f"data: {left_out} of {len(everything)} events left out by keep_kinds and min_value"]


def test_a_choice_that_leaves_nothing_is_refused() -> None:
    with pytest.raises(DataError, match="No event of simulated is left by"):
        load_data(DataSettings(shop=SHOP, min_value=99), "leave_one_out", None, Run())


def test_policies_are_tried_on_the_best_row(tmp_path) -> None:
    recipe = Recipe(
        data=DataSettings(shop=SHOP),
        split={"kind": "leave_one_out"},
        models={"ease": {}},
        evaluation={"policies": [{"kind": "mmr"}, {"kind": "calibrated", "column": "category"}]},
    )
    prepare(tmp_path / "run")
    board = carry_out(recipe, tmp_path / "run", Run(device="cpu", threads=1))
    assert board.policies["row"] == next(each.name for each in board.entries if each.name != "oracle")
    assert len(board.policies["points"]) == 11
    assert read_json(tmp_path / "run" / "leaderboard.json")["policies"]["row"] == board.policies["row"]
    with pytest.raises(ValidationError, match="does not match any of the expected tags"):
        EvaluationSettings(policies=({"kind": "mrr"},))
