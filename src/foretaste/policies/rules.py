"""The rules of a shop: what never stands in a list, what must, and how much of a kind may."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveInt

__all__ = ["AtMost", "MustInclude", "Never", "OnlyFrom", "Rule"]


class _Rule(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class AtMost(_Rule):
    """At most so many items of each name of a column, such as a brand; an item of several names counts for each."""

    kind: Literal["at_most"] = "at_most"
    column: str
    count: PositiveInt

    def __str__(self) -> str:
        return f"at most {self.count} of each {self.column}"


class Never(_Rule):
    """Items that never stand in a list."""

    kind: Literal["never"] = "never"
    items: tuple[int | str, ...]

    def __str__(self) -> str:
        return f"never {_listed(self.items)}"


class OnlyFrom(_Rule):
    """The items that may stand in a list, such as those in stock."""

    kind: Literal["only_from"] = "only_from"
    items: tuple[int | str, ...]

    def __str__(self) -> str:
        return f"only from {len(self.items):,} items"


class MustInclude(_Rule):
    """Items that stand in every list, in its last places where they are not among the best; what was met is not."""

    kind: Literal["must_include"] = "must_include"
    items: tuple[int | str, ...]

    def __str__(self) -> str:
        return f"must include {_listed(self.items)}"


Rule = Annotated[AtMost | Never | OnlyFrom | MustInclude, Field(discriminator="kind")]


def _listed(items: tuple[int | str, ...]) -> str:
    return ", ".join(map(str, items[:3])) + (f" and {len(items) - 3} more" if len(items) > 3 else "")
