"""Honest ways to cut a log into what to learn from, what to choose by and what to be judged by."""

from typing import Annotated

from pydantic import Field

from foretaste.split.at_random import RandomSplit
from foretaste.split.by_item import ColdItems
from foretaste.split.by_moment import ByTime
from foretaste.split.files import Given
from foretaste.split.functions import by_time, cold_items, given, last_n, last_sessions, leave_one_out, random
from foretaste.split.last import LastN, LeaveOneOut
from foretaste.split.leaks import LeakReport, leak_report
from foretaste.split.parts import Split, SplitRule
from foretaste.split.session_end import LastSessions
from foretaste.split.slices import slices

__all__ = [
    "ByTime",
    "ColdItems",
    "Given",
    "LastN",
    "LastSessions",
    "LeakReport",
    "LeaveOneOut",
    "RandomSplit",
    "Split",
    "SplitRule",
    "SplitSettings",
    "by_time",
    "cold_items",
    "given",
    "last_n",
    "last_sessions",
    "leak_report",
    "leave_one_out",
    "random",
    "slices",
]

SplitSettings = Annotated[
    LeaveOneOut | LastN | ByTime | LastSessions | Given | RandomSplit | ColdItems, Field(discriminator="kind")
]
