"""The report: one self-contained page about one leaderboard."""

from foretaste.evaluation.report.page import Example, write_report

__all__ = ["Example", "write_report"]
