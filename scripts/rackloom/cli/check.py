"""`rackloom check`: all mistakes of a site at once, offline."""

from __future__ import annotations

import typer

from rackloom.cli.options import DEFAULT_CONFIG, ConfigOption, JsonOption
from rackloom.result import ExitCode, Result


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("check")(check)


def check(config: ConfigOption = DEFAULT_CONFIG, _json: JsonOption = False) -> Result:
    """Find all mistakes in the configuration, each with file, line and cure. Asks no node."""
    from rackloom.bundle.resolve import without_digest  # noqa: PLC0415 - slow to load
    from rackloom.run.preflight import mistakes_as_problems  # noqa: PLC0415 - slow to load
    from rackloom.site.check import check_site  # noqa: PLC0415

    found = check_site(config)
    problems = mistakes_as_problems(config, found.mistakes)
    if problems or found.site is None:
        count = f"{len(problems)} mistake{'s' if len(problems) != 1 else ''}"
        return Result(
            "check", ExitCode.MISTAKES, {"ok": False, "mistakes": len(problems)}, problems, (f"{count}.",)
        )
    counts: dict[str, int] = {}
    for node in found.site.nodes.values():
        counts[node.role] = counts.get(node.role, 0) + 1
    told = ", ".join(f"{number} {role}" for role, number in counts.items())
    services = [name for name, hosts in found.site.groups.items() if hosts]
    warnings = [
        {
            "code": "no-digest",
            "message": f"The deploy takes {record.key} {record.version}, and nobody has looked up its digest.",
            "cure": "Run `rackloom bundle pin`, where the internet is in reach.",
        }
        for record in without_digest(config, services)
    ]
    data = {
        "ok": True,
        "mistakes": 0,
        "name": found.site.cluster.name,
        "nodes": counts,
        "warnings": warnings,
    }
    view = [f"Warning: {each['message']} {each['cure']}" for each in warnings]
    return Result("check", data=data, view=(*view, f"No mistakes. {found.site.cluster.name}: {told}."))
