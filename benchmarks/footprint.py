"""Start-up time, idle memory and the size of a core installation."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.report import Report
from benchmarks.server import cpu_seconds, pss_megabytes, running, tree

ROOT = Path(__file__).resolve().parent.parent


def run(report: Report) -> None:
    """First and second start with the default plugins, and a fresh installation beside this one.

    Libraries that other programs hold too count in part: measure on a machine that runs no other
    UCM, else the memory looks up to 10 MB smaller.
    """
    with running() as server:
        for start in ("first start", "second start"):
            if start == "second start":
                server.stop()
                server.start()
            report.add(f"{start} to ready", server.started_in, unit="s", at_most=2.0)
            report.add("  CPU time", cpu_seconds(server), unit="s")
            time.sleep(5)
            report.add(
                "  idle memory, all processes", pss_megabytes(server), unit="MB PSS", at_most=150
            )
            report.add("  processes", len(tree(server)), unit="")
    with tempfile.TemporaryDirectory(prefix="ucm-install-") as name:
        subprocess.run(
            [sys.executable, "-m", "venv", "--without-pip", name], check=True, timeout=120
        )
        pip = [sys.executable, "-m", "pip", "--python", f"{name}/bin/python", "--quiet"]
        started = time.perf_counter()
        subprocess.run([*pip, "install", "--no-compile", str(ROOT)], check=True, timeout=600)
        report.add("core installation", time.perf_counter() - started, unit="s")
        site = next(Path(name).glob("lib/python*/site-packages"))
        size = sum(path.stat().st_size for path in site.rglob("*") if path.is_file())
        report.add("  size", size / 1e6, unit="MB", at_most=90)
        report.add("  distributions", len(list(site.glob("*.dist-info"))), unit="", at_most=40)
