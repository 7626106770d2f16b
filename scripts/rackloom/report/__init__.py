"""Pages about runs: read the files a run left, draw them, write one self-contained HTML file."""

from __future__ import annotations
