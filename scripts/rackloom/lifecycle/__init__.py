"""
Nodes that come and go, upgrades, snapshots: what is looked at, planned, and then done by a playbook.

`seen` reads what the nodes told of themselves, the `plan_…` modules make ordered steps or refusals of it and touch
nothing, and `run` does them. Plans follow from what runs, so a command that was stopped goes on when it is run again.
"""
