"""The rankers that are compared on a table of clicks: a YAML file per table."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict

from foretaste.errors import UnknownName
from foretaste.rank.dcnv2 import DCNv2
from foretaste.simulate import Shop

__all__ = ["RankerRow", "RankerRows", "read_rows"]

ROWS = Path(__file__).parent
By = Literal["foretaste", "fuxictr", "lightgbm"]


class RankerRow(BaseModel):
    """One ranker: whose it is, and its settings in the words of that library."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    by: By = "foretaste"
    model: str = "dcnv2"
    settings: Mapping[str, Any] = {}

    def ranker(self) -> DCNv2:
        """The settings of ours."""
        return DCNv2(**self.settings)


class RankerRows(BaseModel):
    """A table and the rankers that are measured on it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    study: str
    name: str
    title: str
    shop: Shop | None = None
    """The simulated shop whose lists are ranked, by tasks. None: a published table of clicks of this name."""
    models: Mapping[str, RankerRow]
    sums: Mapping[str, tuple[str, ...]] = {}
    """Rows that are told as one, each for the tasks that it has, such as rankers of a single task."""
    pairs: tuple[tuple[str, str], ...] = ()
    """Rows of which the first is to be above the second."""
    reach: Mapping[str, float] = {}
    """Row -> the AUC that it is to reach."""
    tried: tuple[str, ...] = ()

    def settings(self, row: str) -> RankerRow:
        """The ranker of a row.

        Raises:
            UnknownName: There is no such row.
        """
        if row not in self.models:
            raise UnknownName("row", row, list(self.models))
        return self.models[row]

    def fingerprint(self, row: str) -> str:
        """A digest of a row's settings and of the name of its table."""
        shop = [] if self.shop is None else [self.shop.model_dump(mode="json")]
        told = json.dumps([self.name, self.settings(row).model_dump(mode="json"), *shop], sort_keys=True)
        return hashlib.blake2b(told.encode(), digest_size=12).hexdigest()


def read_rows(name: str, study: str = "ranking") -> RankerRows:
    """The rows of a table of clicks.

    Raises:
        UnknownName: There are none.
    """
    names = sorted(path.stem for path in (ROWS / study).glob("*.yaml"))
    if name not in names:
        raise UnknownName("data set with rows", name, names)
    content = yaml.safe_load((ROWS / study / f"{name}.yaml").read_text(encoding="utf-8"))
    return RankerRows(study=study, name=name, **content)
