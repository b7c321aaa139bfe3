"""The limit of the disk: durable one-row commits of the standard library's SQLite in the same
directory.
"""

from __future__ import annotations

import sqlite3
import tempfile
import time
from pathlib import Path

from benchmarks.report import Report


def durable_commit_rate(*, seconds: float = 3.0) -> float:
    """Commits per second, WAL and ``synchronous=FULL``, one 1.1 kB row with three indexes each."""
    with tempfile.TemporaryDirectory(prefix="ucm-bench-") as name:
        connection = sqlite3.connect(Path(name) / "limit.db", isolation_level=None)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute(
            "CREATE TABLE c (id INTEGER PRIMARY KEY, a TEXT, b TEXT, d TEXT, der BLOB)"
        )
        for column in "abd":
            connection.execute(f"CREATE INDEX c_{column} ON c ({column})")
        der, count, start = b"x" * 1100, 0, time.perf_counter()
        while (elapsed := time.perf_counter() - start) < seconds:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute(
                "INSERT INTO c (a, b, d, der) VALUES (?, ?, ?, ?)",
                (f"{count:x}", f"host{count}.example", str(count % 7), der),
            )
            connection.execute("COMMIT")
            count += 1
        connection.close()
        return count / elapsed


def run(report: Report) -> None:
    """Report the bare rate."""
    report.add("bare SQLite, durable one-row commits", durable_commit_rate(), unit="commits/s")
