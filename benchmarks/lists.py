"""The certificate list at 100,000 rows: CPU of the server for each kind of page."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from datetime import UTC, datetime

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from benchmarks.report import Report
from benchmarks.server import cpu_seconds, running
from ucm.store.engine import create_engine
from ucm.testing.bulk import a_certificate, load_certificates
from ucm.testing.server import RunningServer

ROWS = 100_000
CPU_MILLISECONDS = 15
REPEAT = 40
NOW = datetime.now(UTC)
QUERIES = {
    "first page": "?per_page=50",
    "deep page": f"?per_page=50&page={ROWS // 50 - 3}",
    "filter by status": "?per_page=50&status=expired",
    "filter by authority, sort by subject": "?per_page=50&ca_id=1&sort_by=subject&sort_order=asc",
    "search one name": f"?per_page=50&search={a_certificate(77_777, now=NOW).common_name}",
    "search that fits every row": "?per_page=50&search=example",
}


@contextlib.contextmanager
def filled() -> Iterator[RunningServer]:
    """A server with ``ROWS`` certificates of one authority."""
    with running() as server:
        ca_id = server.create_root()
        pem = server.call("GET", f"/api/v2/cas/{ca_id}")["data"]["pem"]
        der = x509.load_pem_x509_certificate(pem.encode()).public_bytes(Encoding.DER)
        engine = create_engine(f"sqlite:///{server.data_dir}/ucm.db")
        load_certificates(engine, ROWS, now=NOW, ca_id=ca_id, der=der)
        engine.dispose()
        yield server


def run(report: Report) -> None:
    """Every query, the server's CPU per answer."""
    with filled() as server:
        for name, query in QUERIES.items():
            page = server.call("GET", f"/api/v2/certificates{query}")
            assert page["data"], f"{name}: no rows"
            before = cpu_seconds(server)
            for _ in range(REPEAT):
                server.call("GET", f"/api/v2/certificates{query}")
            cpu = (cpu_seconds(server) - before) / REPEAT * 1000
            report.add(
                f"{name} (of {page['meta']['total']:,})",
                cpu,
                unit="ms CPU",
                at_most=CPU_MILLISECONDS,
            )
