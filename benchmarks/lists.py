"""The certificate list at 100,000 rows: CPU of the server for each kind of page."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator

from benchmarks.report import Report
from benchmarks.server import cpu_seconds, running
from ucm.testing.server import RunningServer

ROWS = 100_000
CPU_MILLISECONDS = 15
REPEAT = 40
QUERIES = {
    "first page": "?per_page=50",
    "deep page": f"?per_page=50&page={ROWS // 50 - 3}",
    "filter by status": "?per_page=50&status=expired",
    "filter by authority, sort by subject": "?per_page=50&ca_id=1&sort_by=subject&sort_order=asc",
    "search one name": "?per_page=50&search=host77777.bulk.example",
    "search that fits every row": "?per_page=50&search=bulk",
}


@contextlib.contextmanager
def filled() -> Iterator[RunningServer]:
    """A server with ``ROWS`` certificates of one authority."""
    with running() as server:
        ca_id = server.create_root()
        subprocess.run(
            [sys.executable, "-m", "ucm.testing.bulk", str(server.data_dir), str(ca_id), str(ROWS)],
            check=True,
            timeout=600,
        )
        yield server


def run(report: Report) -> None:
    """Every query, the server's CPU per answer."""
    with filled() as server:
        for name, query in QUERIES.items():
            server.call("GET", f"/api/v2/certificates{query}")
            before = cpu_seconds(server)
            for _ in range(REPEAT):
                page = server.call("GET", f"/api/v2/certificates{query}")
            cpu = (cpu_seconds(server) - before) / REPEAT * 1000
            report.add(
                f"{name} (of {page['meta']['total']:,})",
                cpu,
                unit="ms CPU",
                at_most=CPU_MILLISECONDS,
            )
