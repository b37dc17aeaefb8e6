"""The command line: one file for each group of commands."""

from shelfrank.cli.commands import app, main

__all__ = ["app", "main"]
