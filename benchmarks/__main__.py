"""``python -m benchmarks [name ...]``: run all or the named benchmarks, print one report."""

from __future__ import annotations

import importlib
import os
import platform
import sys

from benchmarks.report import Report

NAMES = ("footprint", "pipeline", "commits", "issuance", "lists", "streaming")


def main(names: list[str]) -> int:
    unknown = set(names) - set(NAMES)
    if unknown:
        print(f"unknown benchmark {', '.join(sorted(unknown))}; there are: {', '.join(NAMES)}")
        return 2
    report = Report()
    print(f"{platform.platform()}, Python {platform.python_version()}, {os.cpu_count()} cores")
    for name in names or NAMES:
        print(f"\n== {name}", flush=True)
        importlib.import_module(f"benchmarks.{name}").run(report)
    print("\n== summary")
    report.print()
    return 0


sys.exit(main(sys.argv[1:]))
