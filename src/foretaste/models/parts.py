"""Models within a model: what a recipe says of each, what they need together, and where their checkpoints go."""

import re
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, PlainSerializer, SerializationInfo, ValidationError

from foretaste.dataset import Needs
from foretaste.recommender import Settings

__all__ = ["Parts", "needs_of"]


def _read(given: Any) -> Any:
    """Settings from what a recipe says of each part: those of the model that ``model``, or else the label, names."""
    from foretaste.models import model_settings

    if not isinstance(given, Mapping):
        return given
    found = {}
    for label, told in given.items():
        if not re.fullmatch(r"[\w-]+", str(label)):
            raise ValueError(f"a label is of letters, digits, '-' and '_', as it also names a folder; one is {label!r}")
        if isinstance(told, Settings) or not isinstance(told, Mapping | None):
            found[label] = told
            continue
        content = dict(told or {})
        schema = model_settings(str(content.pop("model", label)))
        try:
            found[label] = schema(**content)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(str(step) for step in (label, *first["loc"]))
            raise ValueError(f"{place}: {first['msg'].removeprefix('Value error, ')}") from error
    return found


def _told(parts: Mapping[str, Settings], info: SerializationInfo) -> dict[str, Any]:
    return {
        label: {"model": each.called(), **each.model_dump(mode=info.mode, exclude_defaults=info.exclude_defaults)}
        for label, each in parts.items()
    }


Parts = Annotated[dict[str, Settings], BeforeValidator(_read), PlainSerializer(_told)]
"""Label -> the settings of a model. In a recipe, ``model`` names its model; without that the label does."""


def needs_of(parts: Mapping[str, Settings]) -> Needs:
    """What any of them reads of a dataset."""
    needed = Needs.NOTHING
    for each in parts.values():
        needed |= each.required
    return needed
