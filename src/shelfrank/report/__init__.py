"""The report of a comparison: one self-contained page, and a table for the terminal."""

from shelfrank.report.page import render, write_report
from shelfrank.report.terminal import comparison_table, conclusion_lines

__all__ = ["comparison_table", "conclusion_lines", "render", "write_report"]
