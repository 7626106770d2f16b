"""A dashboard as Grafana's JSON: the same input makes the same bytes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from .model import WIDTH, Dashboard, Panel, Query, Variable

SOURCE = {"type": "prometheus", "uid": "rackloom-prometheus"}
"""The data source that the role grafana provides."""
_SCHEMA = 39
_TYPES = {
    "stat": "stat",
    "timeseries": "timeseries",
    "table": "table",
    "bars": "bargauge",
    "states": "state-timeline",
}
_NOW = ("stat", "table", "bars")
"""Kinds that show one moment."""

Json = dict[str, Any]


def _target(panel: Panel, number: int, query: Query) -> Json:
    now = panel.kind in _NOW
    return {
        "datasource": SOURCE,
        "editorMode": "code",
        "expr": query.expr,
        "format": "table" if panel.kind == "table" else "time_series",
        "instant": now,
        "range": not now,
        "legendFormat": query.legend or "__auto",
        "refId": chr(ord("A") + number),
    }


def _field(panel: Panel) -> Json:
    steps = [{"color": color, "value": value} for value, color in panel.limits] or [
        {"color": "green", "value": None}
    ]
    defaults: Json = {
        "unit": panel.unit,
        "thresholds": {"mode": "absolute", "steps": steps},
        "color": {"mode": "thresholds" if panel.kind in _NOW else "palette-classic"},
    }
    if panel.low is not None:
        defaults["min"] = panel.low
    if panel.high is not None:
        defaults["max"] = panel.high
    if panel.kind == "timeseries":
        defaults["custom"] = {
            "drawStyle": "line",
            "lineWidth": 1,
            "fillOpacity": 25 if panel.stack else 5,
            "showPoints": "never",
            "spanNulls": False,
            "stacking": {"mode": "normal" if panel.stack else "none", "group": "A"},
        }
    if panel.kind == "states":
        defaults["custom"] = {"fillOpacity": 70, "lineWidth": 0}
        defaults["color"] = {"mode": "thresholds"}
    return {"defaults": defaults, "overrides": []}


def _options(panel: Panel) -> Json:
    reduced = {"calcs": ["lastNotNull"], "fields": "", "values": False}
    if panel.kind == "stat":
        return {
            "reduceOptions": reduced,
            "colorMode": "value",
            "graphMode": "none",
            "textMode": "auto" if len(panel.queries) == 1 else "value_and_name",
        }
    if panel.kind == "bars":
        return {"reduceOptions": reduced, "displayMode": "basic", "orientation": "horizontal"}
    if panel.kind == "table":
        return {"showHeader": True, "footer": {"show": False}}
    if panel.kind == "states":
        return {
            "showValue": "never",
            "rowHeight": 0.8,
            "legend": {"displayMode": "list", "placement": "bottom"},
        }
    return {
        "legend": {"displayMode": "list", "placement": "bottom", "calcs": []},
        "tooltip": {"mode": "multi", "sort": "desc"},
    }


def _transformations(panel: Panel) -> list[Json]:
    if panel.kind != "table":
        return []
    hidden = dict.fromkeys(("Time", "__name__", "instance", "job", *panel.hide), True)
    merge: list[Json] = [{"id": "merge", "options": {}}] if len(panel.queries) > 1 else []
    return [
        *merge,
        {"id": "organize", "options": {"excludeByName": hidden, "indexByName": {}, "renameByName": {}}},
    ]


def _panel(number: int, panel: Panel, place: Json) -> Json:
    made: Json = {
        "id": number,
        "type": _TYPES[panel.kind],
        "title": panel.title,
        "datasource": SOURCE,
        "gridPos": place,
        "targets": [_target(panel, index, query) for index, query in enumerate(panel.queries)],
        "fieldConfig": _field(panel),
        "options": _options(panel),
        "transformations": _transformations(panel),
    }
    if panel.help:
        made["description"] = panel.help
    return made


def _variable(variable: Variable) -> Json:
    question = f"label_values({variable.metric}, {variable.label})"
    everything = {"text": "All", "value": "$__all"}
    return {
        "name": variable.name,
        "label": variable.title,
        "type": "query",
        "datasource": SOURCE,
        "definition": question,
        "query": {"query": question, "refId": "variable"},
        "refresh": 2,
        "sort": 7,
        "multi": variable.many,
        "includeAll": variable.many,
        # A hidden one stands for its very values: a query that names them does not look at everybody else.
        "allValue": ".*" if variable.many and not variable.hidden else None,
        "current": everything if variable.many else {},
        "options": [],
        "regex": "",
        "hide": 2 if variable.hidden else 0,
    }


def _grid(dashboard: Dashboard) -> list[Json]:
    made: list[Json] = []
    top = 0
    for row in dashboard.rows:
        made.append(
            {
                "id": len(made) + 1,
                "type": "row",
                "title": row.title,
                "collapsed": False,
                "gridPos": {"x": 0, "y": top, "w": WIDTH, "h": 1},
                "panels": [],
            }
        )
        top += 1
        left = tallest = 0
        for panel in row.panels:
            if left + panel.width > WIDTH:
                top, left, tallest = top + tallest, 0, 0
            place = {"x": left, "y": top, "w": panel.width, "h": panel.height}
            made.append(_panel(len(made) + 1, panel, place))
            left += panel.width
            tallest = max(tallest, panel.height)
        top += tallest
    return made


def render(dashboard: Dashboard) -> str:
    """The dashboard as a file."""
    made = {
        "uid": dashboard.uid,
        "title": dashboard.title,
        "description": dashboard.help,
        "tags": list(dashboard.tags),
        "schemaVersion": _SCHEMA,
        "version": 1,
        "editable": False,
        "graphTooltip": 1,
        "refresh": dashboard.refresh,
        "time": {"from": dashboard.since, "to": "now"},
        "timezone": "browser",
        "templating": {"list": [_variable(variable) for variable in dashboard.variables]},
        "annotations": {"list": []},
        "links": [
            {
                "type": "dashboards",
                "title": "Cluster",
                "tags": ["rackloom"],
                "asDropdown": True,
                "includeVars": True,
                "keepTime": True,
            }
        ],
        "panels": _grid(dashboard),
    }
    return json.dumps(made, indent=1, ensure_ascii=False) + "\n"


def names(dashboards: Sequence[Dashboard]) -> dict[str, Dashboard]:
    """By the name of the file."""
    return {f"{dashboard.uid}.json": dashboard for dashboard in dashboards}
