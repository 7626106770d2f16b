"""What the lifecycle commands share: their progress, and how they ended as a result."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rackloom.cli.options import progress_for
from rackloom.result import Block, ExitCode, Problem, Result, Status, refused

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from rackloom.lifecycle.run import Done, Limits
    from rackloom.run.progress import ProgressSink


def sink(*, as_json: bool) -> Callable[[bool], ProgressSink]:
    """Progress for each of a command's playbooks."""
    return lambda quick: progress_for(as_json=as_json, quick=quick)


def expanded(command: str, names: Sequence[str]) -> tuple[str, ...] | Result:
    """Names out of names and ranges."""
    from rackloom.site.ranges import RangeError, expand  # noqa: PLC0415 - slow to load

    try:
        return tuple(dict.fromkeys(expand(names)))
    except RangeError as error:
        return refused(command, "usage", str(error), "write names, or ranges like gpu[001-016]")


def carried_out(
    command: str,
    run: Callable[..., Done],
    config: Path,
    wish: object,
    limits: Limits,
    check: bool,
    as_json: bool,
) -> Result:
    """Have a command do what is wished, and say how it ended."""
    done = run(config, wish, limits, sink(as_json=as_json), check=check)
    return result_of(command, done, check=check)


def result_of(command: str, done: Done, *, check: bool = False) -> Result:
    """How a command ended, for people and programs."""
    from rackloom.cli.outcome import hosts_table  # noqa: PLC0415

    view: list[Block] = []
    good = done.exit_code is ExitCode.OK
    if done.plan.steps and (check or good or done.begun):
        view += [done.plan.table(), ""]
    for one in done.runs:
        if one.exit_code is not ExitCode.OK and one.hosts:
            view += [hosts_table(one.hosts), ""]
    if check:
        view += [*done.plan.notes, "Nothing was changed." if done.plan.steps else "There is nothing to do."]
    elif good:
        view += [*done.told] or ["There is nothing to do." if not done.runs else "Done."]
        if done.runs:
            seconds = sum(one.seconds for one in done.runs)
            view.append(f"Done in {seconds:.0f} s. {done.runs[-1].run_dir}")
    else:
        view += list(done.told)
        if done.resume and done.begun:
            view.append(f"To go on: {done.resume}")
    data = {
        **done.plan.as_dict(),
        **done.data,
        "check": check,
        "runs": [{**one.as_dict(), "exit_code": int(one.exit_code)} for one in done.runs],
        "resume": done.resume if done.begun else "",
    }
    problems: tuple[Problem, ...] = done.problems
    status = Status.PARTIAL if not good and done.begun else None
    return Result(command, done.exit_code, data, problems, view, status)
