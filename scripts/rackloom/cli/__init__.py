"""The command line: parse, call, render. Commands return a Result; only `main` ends the process."""

from __future__ import annotations
