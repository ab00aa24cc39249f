"""Which columns a ranker reads, in which groups, and how; and the groups that columns of known names belong to."""

from collections.abc import Mapping
from typing import Any, Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, NonNegativeInt, PositiveFloat, PositiveInt, ValidationError, model_validator

from foretaste.catalog import Column, ColumnKind, Number
from foretaste.errors import ConfigError
from foretaste.rank.examples import Examples
from foretaste.text_encoder import Pooling

__all__ = ["CODES", "Feature", "FeatureKind", "Groups", "groups_of"]

FeatureKind = Literal["category", "categories", "number", "text", "vector", "time", "sequence"]
Groups = Mapping[str, tuple["Feature", ...]]

OPTIONS: Mapping[str, tuple[FeatureKind, ...]] = {  # which kinds an option is of
    "hashed": ("category", "categories"),
    "fewest": ("category", "categories", "sequence"),
    "log": ("number",),
    "pieces": ("number",),
    "cycle": ("number",),
    "encoder": ("text",),
    "pooling": ("text",),
    "unfrozen_layers": ("text",),
    "encoder_lr": ("text",),
    "length": ("sequence", "text"),
}


class Feature(BaseModel):
    """A column and how it is read."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    column: str
    kind: FeatureKind | None = None
    """None: as the table has it, texts as names. Numbers that are names, such as codes of shops, are of kind category;
    texts that are to be read by an encoder of kind text."""
    hashed: PositiveInt | None = None
    """Names by their digest, in so many places, instead of those that training met: for identifiers without end."""
    fewest: PositiveInt = 1
    """Names that fewer examples of training have count as unknown, so that something is learned of the unknown."""
    log: bool = False
    """Read sign(x) log(1 + |x|): for prices and counts."""
    pieces: PositiveInt | None = None
    """Read a number piece by piece between so many quantiles, instead of standardised."""
    cycle: PositiveFloat | None = None
    """After so much a number begins again, such as 7 for days of the week."""
    encoder: str = "all-MiniLM-L6-v2"
    """Of texts: a folder, or the name of a sentence encoder."""
    pooling: Pooling = "own"
    """How the states of a text's tokens become one vector: as its encoder was made to, or that of the first (cls)."""
    unfrozen_layers: NonNegativeInt = 0
    """How many of the encoder's last layers go on learning, for texts of which there are few, such as places: those of
    a batch are encoded in each step, and those of a list whenever it is ranked. 0: none, and each is encoded once."""
    encoder_lr: PositiveFloat = 2e-5
    """The learning rate of these layers, by the schedule of ``plan``."""
    length: PositiveInt = 50
    """How many of the latest of a sequence are read, and of the first tokens of a text while its encoder learns."""
    answered_as: float | str | None = None
    """The value that everything has when scores are asked. None: that of its own; of a column called position, or
    position_in_carousel, the first place."""

    @model_validator(mode="after")
    def _options_are_of_the_kind(self) -> Self:
        for option, kinds in OPTIONS.items():
            told = getattr(self, option) != type(self).model_fields[option].default
            if told and self.kind is not None and self.kind not in kinds:
                raise ValueError(f"{option} is an option of {' and '.join(kinds)}; {self.column} is {self.kind}")
            if told and self.kind is None and kinds == ("text",):
                raise ValueError(f"{option} is an option of text; texts are read as names unless {self.column} says so")
        return self

    def kind_in(self, examples: Examples) -> FeatureKind:
        """How the column is read: as told, or as its table has it; texts, and codes known as such, as names."""
        own = examples.column(self.column).kind
        named = own == "text" or (own == "number" and (self.column in CODES or self.hashed is not None))
        return self.kind or ("category" if named else own)

    def told(self, examples: Examples) -> Self:
        """The same with all that it is read by told: its kind, and of a position what is answered.

        Raises:
            ConfigError: An option is of another kind.
        """
        place = first_place(self.column, examples.column(self.column)) if self.answered_as is None else self.answered_as
        try:
            return type(self)(**{**self.model_dump(), "kind": self.kind_in(examples), "answered_as": place})
        except ValidationError as error:
            told = [each["msg"].removeprefix("Value error, ") for each in error.errors()]
            raise ConfigError("; ".join(told)) from error


# The columns of the re-ranker that this one was asked for after, so that a table of these names needs no declaration.
KNOWN: Mapping[str, tuple[str, ...]] = {
    "user": (
        "als_user_embeds_binary", "age", "gender", "geo", "region", "click", "atc", "purchase", "loose_atc",
        "loose_purch", "age_bins", "age_bins_double", "anon_flag",
    ),
    "product": (
        "als_prod_embeds_binary", "product_gender", "product_body_part", "product_taxonomy_id", "product_age_desc",
    ),
    "style": ("style_code", "style_color", "position_in_carousel", "position"),
    "anchor": ("anchor_style", "anchor_body_part", "anchor_gender", "anchor_taxonomy_id"),
    "event": ("event_date", "event_timestamp", "event_dow", "timestamp"),
    "page": ("experience_type", "page_type", "page_detail"),
    "system": ("app_build", "app_version", "os_name", "os_version", "raw_upm_id"),
}  # fmt: skip
CODES = (
    "user_id", "item_id", "product_taxonomy_id", "style_code", "anchor_style", "anchor_taxonomy_id", "app_build",
    "app_version", "os_version",
)  # fmt: skip
# How columns of known names are read where they are of the kind that is told first.
READ_AS: Mapping[str, tuple[ColumnKind, Mapping[str, Any]]] = {
    **dict.fromkeys(CODES, ("number", {"kind": "category"})),
    **dict.fromkeys(("click", "atc", "purchase", "loose_atc", "loose_purch"), ("number", {"log": True})),
    "event_dow": ("number", {"cycle": 7.0}),
    "raw_upm_id": ("text", {"kind": "category", "hashed": 100_000}),
}
POSITIONS = ("position_in_carousel", "position")


def first_place(name: str, column: Column) -> float | None:
    """Of a column of positions the first; None of others."""
    if name not in POSITIONS or not isinstance(column, Number) or np.isnan(column.values).all():
        return None
    return float(np.nanmin(column.values))


OF_LEVEL = {"requests": "request", "items": "product", "places": "other"}


def groups_of(examples: Examples) -> Groups:
    """All columns of some examples, in the groups of their names, else in those of their tables.

    Texts are read as names; to have them read by an encoder, declare them to be of kind text. When scores are asked,
    everything stands in the first place.
    """
    group_of = {name: group for group, names in KNOWN.items() for name in names}
    found: dict[str, list[Feature]] = {}
    for level, table in examples.tables().items():
        for name in table:
            group = group_of.get(name, OF_LEVEL[level])
            kind, options = READ_AS.get(name, (None, {}))
            column = table[name]
            told: dict[str, Any] = (
                dict(options) if kind == column.kind else {"kind": "category"} if column.kind == "text" else {}
            )
            if (place := first_place(name, column)) is not None:
                told["answered_as"] = place
            found.setdefault(group, []).append(Feature(column=name, **told))
    return {group: tuple(features) for group, features in found.items()}
