"""Any event log: found, opened, its columns guessed and said, its rows checked, every repair counted."""

from foretaste.events.columns import Columns
from foretaste.events.impressions import ImpressionColumns, read_impressions
from foretaste.events.reading import inspect_events, read_events, validate_events
from foretaste.events.report import LogReport, Problem
from foretaste.events.tables import read_item_table, read_table

__all__ = [
    "Columns",
    "ImpressionColumns",
    "LogReport",
    "Problem",
    "inspect_events",
    "read_events",
    "read_impressions",
    "read_item_table",
    "read_table",
    "validate_events",
]
