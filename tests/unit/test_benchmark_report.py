"""The benchmarks' report names the bounds that were missed."""

from __future__ import annotations

import pytest

from benchmarks.report import Report


def test_missed_bounds_are_named_at_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    report = Report()
    report.add("start to ready", 3.0, unit="s", at_most=2.0)
    report.add("memory", 100.0, unit="MB", at_most=150.0)
    report.add("certificates", 10.0, unit="/s", at_least=20.0)
    report.add("for information", 1.0, unit="s")
    report.print()
    ending = capsys.readouterr().out.splitlines()[-3:]
    assert ending == ["2 of 3 bounds missed:", "  start to ready", "  certificates"]


def test_nothing_missed_is_said_too(capsys: pytest.CaptureFixture[str]) -> None:
    report = Report()
    report.add("memory", 100.0, unit="MB", at_most=150.0)
    report.print()
    assert capsys.readouterr().out.splitlines()[-1] == "0 of 1 bounds missed"
