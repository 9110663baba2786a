"""The report a person reads: one HTML file that opens offline and asks nobody for anything."""

from moodscale.evaluate.report.context import ReportContext
from moodscale.evaluate.report.write import write_report

__all__ = ["ReportContext", "write_report"]
