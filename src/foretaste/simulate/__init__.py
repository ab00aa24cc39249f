"""A shop whose truth is known: events, catalogue and impressions drawn from tastes that can be looked up."""

from foretaste.simulate.oracle import Oracle
from foretaste.simulate.shop import Shop
from foretaste.simulate.stream import simulate_events
from foretaste.simulate.truth import Truth
from foretaste.simulate.world import World, simulate

__all__ = ["Oracle", "Shop", "Truth", "World", "simulate", "simulate_events"]
