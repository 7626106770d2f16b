"""`rackloom inventory`: what Ansible sees."""

from __future__ import annotations

import typer

from rackloom.cli.options import DEFAULT_CONFIG, ConfigOption, JsonOption
from rackloom.result import Block, ExitCode, Result, Table


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("inventory")(inventory)


def inventory(config: ConfigOption = DEFAULT_CONFIG, _json: JsonOption = False) -> Result:
    """List the groups and their hosts, and how plain Ansible is pointed at them."""
    from rackloom.run.preflight import mistakes_as_problems  # noqa: PLC0415 - slow to load
    from rackloom.run.progress import names  # noqa: PLC0415
    from rackloom.site.check import check_site  # noqa: PLC0415

    found = check_site(config)
    if found.site is None:
        return Result("inventory", ExitCode.MISTAKES, errors=mistakes_as_problems(config, found.mistakes))
    groups = {name: list(hosts) for name, hosts in found.site.groups.items()}
    rows = [(name, str(len(hosts)), names(hosts)) for name, hosts in groups.items() if hosts]
    empty = [name for name, hosts in groups.items() if not hosts]
    hint = f"ansible-inventory -i {config} --graph; ansible-playbook -i {config} playbooks/site.yml"
    view: list[Block] = [Table(("group", "hosts", "names"), rows), ""]
    view += [f"Off (no hosts): {', '.join(empty)}"] if empty else []
    view.append(f"Plain Ansible sees the same: {hint}")
    return Result("inventory", data={"groups": groups}, view=view)
