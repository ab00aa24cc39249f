"""The settings of the simulated shop."""

import math
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from foretaste.simulate.words import CATEGORIES

__all__ = ["DAY", "Shop"]

DAY = 86_400_000  # milliseconds
THEMES_PER_CATEGORY = len(CATEGORIES[0].themes)
EVENTS_PER_VIEW = 1.3  # a view, and what of the funnel follows it


class Shop(BaseModel):
    """How large the shop is, and how strongly each thing that moves its visitors moves them.

    Equal settings give equal data, byte for byte.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    users: int = Field(default=2000, ge=1, description="People who visit at least once.")
    items: int = Field(default=800, ge=10, description="Items, those that arrive late included.")
    events: int = Field(default=60_000, ge=1, description="Events to expect: views, carts and purchases together.")
    days: int = Field(default=120, ge=7, le=3650, description="Length of the log, in days.")
    start: int = Field(default=1_756_684_800_000, ge=0, description="First moment, in milliseconds since 1970 UTC.")
    categories: int = Field(
        default=8, ge=1, le=len(CATEGORIES), description=f"Departments, of {THEMES_PER_CATEGORY} themes each."
    )
    late_items: float = Field(
        default=0.35, ge=0, le=0.9, description="Share of the items that arrive after the first day."
    )
    late_users: float = Field(
        default=0.5, ge=0, le=1, description="Share of the users whose first visit is spread over time."
    )
    sharpness: float = Field(
        default=2.0, ge=0, description="Log odds of a theme per standard deviation of taste; 0 = all alike."
    )
    drift: float = Field(
        default=1.0, ge=0, description="Angle by which each taste turns over the whole log, in radians."
    )
    season: float = Field(default=1.0, ge=0, description="Log odds of a seasonal category at its peak of the year.")
    bursts: int = Field(default=24, ge=0, description="How often an item goes viral over the whole log.")
    burst_height: float = Field(
        default=60.0, ge=1, description="By what an item's appeal is multiplied as it goes viral."
    )
    burst_days: float = Field(default=5.0, gt=0, description="Days in which a burst falls to 1/e.")
    stay: float = Field(default=0.72, ge=0, le=0.95, description="Mean chance that a session goes on after a view.")
    storefront: float = Field(default=0.2, ge=0, le=1, description="Chance that a session opens with what all look at.")
    related: float = Field(
        default=0.4, ge=0, le=0.8, description="Chance that a next view follows a link of the last item."
    )
    shown: int = Field(default=8, ge=2, le=50, description="Items on a list that is shown.")
    seed: int = Field(default=0, ge=0, description="Other seeds, other shops.")

    @model_validator(mode="after")
    def _has_room(self) -> Self:
        if self.items < 2 * self.themes:
            raise ValueError(
                f"{self.items} items are too few for {self.themes} themes of two items at least; "
                f"take {2 * self.themes} items or fewer categories"
            )
        fewest = math.ceil(self.users * EVENTS_PER_VIEW / (1 - self.stay))
        if self.events < fewest:
            raise ValueError(
                f"{self.events} events are too few for {self.users} users who all visit at least once; "
                f"take {fewest} events or fewer users"
            )
        return self

    @property
    def themes(self) -> int:
        return self.categories * THEMES_PER_CATEGORY

    @property
    def end(self) -> int:
        """The moment after the log, in milliseconds."""
        return self.start + self.days * DAY
