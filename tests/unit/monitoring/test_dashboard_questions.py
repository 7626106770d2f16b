from __future__ import annotations

from rackloom.dashboards import DASHBOARDS
from rackloom.dashboards.ask import questions
from rackloom.site.monitoring_vars import JOBS

ALL = {job.name for job in JOBS} | {"blackbox", "etcd", "haproxy", "volume", "mirror", "backup", "gpus"}


def test_every_query_is_asked_where_everything_is_measured() -> None:
    wanted = sum(len(panel.queries) for board in DASHBOARDS for panel in board.panels())
    assert len(list(questions(ALL))) == wanted


def test_nothing_is_left_to_choose() -> None:
    assert not [question.expr for question in questions(ALL) if "$" in question.expr]


def test_dashboards_of_what_is_not_there_are_left_out() -> None:
    boards = {question.dashboard for question in questions({"node", "slurm"})}
    assert {"rackloom-cluster", "rackloom-slurm", "rackloom-job"} <= boards
    assert not {"rackloom-gpu", "rackloom-kubernetes"} & boards


def test_only_what_must_have_an_answer_is_loud() -> None:
    loud = {question.expr for question in questions({"node"}) if not question.quiet}
    assert 'count(up{job="node"})' in loud
    assert not [expr for expr in loud if "DCGM" in expr or "slurm_" in expr]
    assert not [
        question for question in questions(ALL) if question.dashboard == "rackloom-job" and not question.quiet
    ]


def test_what_a_site_has_not_is_no_trouble() -> None:
    """Nobody is told of an empty panel about GPUs, a mirror or NVLink where there are none."""
    loud = [question.expr for question in questions({"node", "slurm", "volume"}) if not question.quiet]
    assert loud
    assert not [expr for expr in loud if "gpus" in expr or 'volume="mirror"' in expr]
    loud = [question.expr for question in questions(ALL) if not question.quiet]
    assert [expr for expr in loud if 'volume="mirror"' in expr]
    assert [expr for expr in loud if "DCGM_FI_DEV_GPU_UTIL" in expr]
    assert not [expr for expr in loud if "NVLINK" in expr or "FI_PROF" in expr]
