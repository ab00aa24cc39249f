"""The rows: a folder of YAML files per study, one per data set: the protocol, the models, what they are to reach."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, PositiveInt

from foretaste.errors import UnknownName
from foretaste.recipe import Recipe, validated, with_overrides
from foretaste.recommender import Settings
from foretaste.split import SplitSettings

ROWS = Path(__file__).parent
SEQUENCES, RETRIEVAL = "sequences", "retrieval"  # the studies
BEST = "best"  # in ``reach``: whichever row is ahead
RECIPE = ("data", "split", "models", "evaluation")


class Reach(BaseModel):
    """What a row is to reach, and what is in print."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    at_least: Mapping[str, float]  # metric -> mean over the test queries
    in_print: str = ""


class Claim(BaseModel):
    """What is said to be gained by one row over another, and is to be measured."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    words: str  # as it is said
    row: str
    over: str
    metric: str
    gain: float  # the least that is claimed, as a share: 0.2 = a fifth more
    strangers: PositiveInt | None = None  # after so many events of strangers; None: of the people of the test


class Range(BaseModel):
    """Numbers that a search draws from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    low: float
    high: float
    log: bool = False  # evenly over the orders of magnitude


class Rows(BaseModel):
    """One data set with its protocol, and the models that are measured on it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    study: str
    title: str
    recipe: Recipe
    headline: tuple[str, ...] = ("hit@10", "ndcg@10")
    """The metrics that the table shows."""
    ranked_by: str = "ndcg@10"
    """The metric by which rows are ranked and compared; it is kept of every query."""
    reach: Mapping[str, Reach] = {}
    """Row, or "best", -> what it is to reach."""
    pairs: tuple[tuple[str, str], ...] = ()
    """Rows to compare beside the best and the second."""
    claims: tuple[Claim, ...] = ()
    """What is claimed of the models, to be held against what is measured here."""
    draws: bool = False
    """Each seed also draws anew what is withheld, so that one draw does not decide; a query is a person and a draw."""
    withheld_alone: bool = False
    """Of a split that withholds items: the same queries are also answered with lists of these items alone."""
    strangers: tuple[PositiveInt, ...] = ()
    """The test is also asked by nobody in particular, after so many of the latest events of each history."""
    baseline: str = "popular"
    """The row that every other is to be above for strangers."""
    beside: str | None = None
    """The study whose results for the same data stand in the table too, where this one has no such row."""
    tried: tuple[str, ...] = ()
    """What was tried towards what is not reached, and what came of it; sentences."""
    search_split: Annotated[SplitSettings, Field(discriminator="kind")] | None = None
    """The split whose validation part a search looks at. None: that of the recipe."""
    search: Mapping[str, Mapping[str, tuple[Any, ...] | Range]] = {}
    """Row -> setting with dots -> the values, or the range, that a search draws from."""

    @property
    def name(self) -> str:
        return self.recipe.name

    def recipe_of(self, seed: int) -> Recipe:
        """What is measured with a seed."""
        if not self.draws:
            return self.recipe
        return self.recipe.model_copy(update={"split": self.recipe.split.model_copy(update={"seed": seed})})

    def settings(self, row: str) -> Settings:
        """The settings of a row.

        Raises:
            UnknownName: There is no such row.
            ConfigError: A setting is wrong.
        """
        if row not in self.recipe.models:
            raise UnknownName("row", row, list(self.recipe.models))
        return self.recipe.narrowed([row]).settings()[row]

    def changed(self, row: str, changes: Mapping[str, Any]) -> "Rows":
        """The same with other values for some settings (with dots) of a row."""
        pairs = [f"{key}={json.dumps(value)}" for key, value in changes.items()]
        models = {**self.recipe.models, row: with_overrides(self.recipe.models[row], pairs)}
        return self.model_copy(update={"recipe": self.recipe.model_copy(update={"models": models})})

    def fingerprint(self, row: str) -> str:
        """A digest of all that a row's numbers depend on but code and seed.

        Settings count where they are not the default, so a new option of a model leaves the digest as it is.
        """
        settings, split = self.settings(row), self.recipe.split
        told = {
            "model": settings.called(),
            "settings": settings.model_dump(mode="json", exclude_defaults=True),
            "split": {"kind": split.kind, **split.model_dump(mode="json", exclude_defaults=True)},
            **self.recipe.model_dump(mode="json", include={"data", "evaluation"}, exclude_defaults=True),
        }
        return hashlib.blake2b(json.dumps(told, sort_keys=True).encode(), digest_size=8).hexdigest()


def names(study: str = SEQUENCES) -> list[str]:
    """The data sets that have rows."""
    return sorted(path.stem for path in (ROWS / study).glob("*.yaml"))


def read_rows(name: str, study: str = SEQUENCES) -> Rows:
    """The rows of a data set in a study.

    Raises:
        UnknownName: It has none.
        ConfigError: Something in the file is wrong.
    """
    if name not in names(study):
        raise UnknownName("data set", name, names(study))
    path = ROWS / study / f"{name}.yaml"
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    recipe = {"name": name, **{key: content.pop(key) for key in RECIPE if key in content}}
    rows = validated(Rows, {"study": study, "recipe": recipe, **content}, str(path))
    for row in rows.recipe.models:
        rows.settings(row)  # a misspelt setting shows now, not after an hour
    return rows
