"""Memory while every certificate is exported."""

from __future__ import annotations

from benchmarks.lists import ROWS, filled
from benchmarks.report import Report
from benchmarks.server import pss_megabytes


def run(report: Report) -> None:
    """Read the whole export and compare the server's memory before and at the worst moment."""
    with filled() as server:
        with server.session.get(
            f"{server.https}/api/v2/certificates/export?format=pem",
            headers={"X-API-Key": server.api_key},
            verify=str(server.certificate),
            stream=True,
            timeout=300,
        ) as answer:
            answer.raise_for_status()
            chunks = answer.iter_content(1 << 16)
            received = len(next(chunks))
            before = worst = pss_megabytes(server)
            for number, chunk in enumerate(chunks):
                received += len(chunk)
                if number % 64 == 0:
                    worst = max(worst, pss_megabytes(server))
        report.add(f"export of {ROWS:,} certificates", received / 1e6, unit="MB received")
        report.add("  growth of the server's memory", worst - before, unit="MB PSS", at_most=20)
