"""The cluster's dashboards, written down as data and rendered as Grafana reads them.

`python -m rackloom.dashboards` writes roles/grafana/files/dashboards; a test sees to it that they are fresh.
"""

from __future__ import annotations

from .boards import DASHBOARDS
from .grafana import render
from .model import Dashboard, Panel, Query, Row, Variable

__all__ = ["DASHBOARDS", "Dashboard", "Panel", "Query", "Row", "Variable", "render"]
