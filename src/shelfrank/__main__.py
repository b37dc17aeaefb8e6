"""Runs the command line as `python -m shelfrank`."""

from shelfrank.cli import main

main()
