"""Care of the database as a whole: size, compaction, integrity."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from sqlalchemy import Connection, Engine, func, literal_column, select, text

from ucm.api.errors import StorageFailed
from ucm.store import tables
from ucm.store.engine import BUSY_TIMEOUT, begins_itself, is_sqlite
from ucm.store.write_queue import WriteQueue

_COUNTED = {
    "certificates": tables.certificate,
    "cas": tables.ca,
    "csrs": tables.csr,
    "templates": tables.template,
    "keys": tables.key,
    "users": tables.user,
    "audit_logs": tables.audit,
}
_WORTH_COMPACTING = 0.1
_MOST_FINDINGS = 20
_BAD_INDEXES = """
SELECT 'index ' || indexrelid::regclass || ' is not valid' FROM pg_index WHERE NOT indisvalid
UNION ALL SELECT 'constraint ' || conname || ' of ' || conrelid::regclass || ' is not checked'
FROM pg_constraint WHERE NOT convalidated
UNION ALL SELECT 'data checksums failed ' || checksum_failures || ' times'
FROM pg_stat_database WHERE datname = current_database() AND checksum_failures > 0
LIMIT 20
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class DatabaseFacts:
    """What kind of database it is and how large. ``place`` never holds a password."""

    dialect: str
    version: str
    place: str
    size: int
    free: int
    """Bytes in the files that hold nothing (SQLite)."""
    counts: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Compaction:
    """Sizes in bytes; ``steps`` says what was done."""

    size_before: int
    size_after: int
    steps: Sequence[str]


@dataclass(frozen=True, kw_only=True, slots=True)
class Integrity:
    """Findings, at most 20 of each check; none: all is well."""

    checks: Sequence[str]
    errors: Sequence[str]


class DatabaseMaintenance:
    """Works on an engine beside the units of work."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    @property
    def dialect(self) -> str:
        """``sqlite`` or ``postgresql``."""
        return self._engine.dialect.name

    def facts(self, *, counts: bool) -> DatabaseFacts:
        """One statement for the sizes and one for all ``counts``."""
        with self._connected() as connection:
            if is_sqlite(self._engine):
                found = self._sqlite_facts(connection)
            else:
                found = self._postgresql_facts(connection)
            if counts:
                numbers = (
                    select(func.count()).select_from(table).scalar_subquery().label(name)
                    for name, table in _COUNTED.items()
                )
                row = connection.execute(select(*numbers)).one()
                found["counts"] = {name: int(number) for name, number in row._mapping.items()}
        return DatabaseFacts(dialect=self.dialect, **found)

    def optimize(self) -> Compaction:
        """SQLite: write the log back into the file and, when a tenth of it is empty, rewrite it;
        writers wait for that, readers do not. PostgreSQL: gather statistics; nobody waits.

        Raises ``Busy``, and ``StorageFailed`` when the disk is too small for the rewriting.
        """
        before = self.facts(counts=False)
        steps = self._compact(before) if is_sqlite(self._engine) else self._analyze()
        after = self.facts(counts=False)
        return Compaction(size_before=before.size, size_after=after.size, steps=steps)

    def check(self) -> Integrity:
        """Read everything and compare it with itself, beside readers and writers."""
        with self._connected() as connection:
            if not is_sqlite(self._engine):
                rows = connection.execute(text(_BAD_INDEXES)).scalars()
                checks = ("indexes", "constraints", "checksum failures")
                return Integrity(checks=checks, errors=list(rows))
            pages = connection.exec_driver_sql(f"PRAGMA integrity_check({_MOST_FINDINGS})")
            errors = [row[0] for row in pages if row[0] != "ok"]
            keys = connection.exec_driver_sql("PRAGMA foreign_key_check")
            errors += [
                f"{table}, row {row}: refers to a row of {parent} that is not there"
                for table, row, parent, _ in keys.fetchmany(_MOST_FINDINGS)
            ]
        return Integrity(checks=("pages and indexes", "foreign keys"), errors=errors)

    @contextmanager
    def _connected(self) -> Iterator[Connection]:
        options = begins_itself() if is_sqlite(self._engine) else {}
        with self._engine.connect() as connection:
            yield connection.execution_options(**options)

    def _sqlite_facts(self, connection: Connection) -> dict[str, Any]:
        pages, free, size = connection.exec_driver_sql(
            "SELECT page_count, freelist_count, page_size"
            " FROM pragma_page_count, pragma_freelist_count, pragma_page_size"
        ).one()
        return {
            "version": sqlite3.sqlite_version,
            "place": self._engine.url.database or "",
            "size": pages * size,
            "free": free * size,
        }

    def _postgresql_facts(self, connection: Connection) -> dict[str, Any]:
        version, size = connection.execute(
            select(
                func.current_setting("server_version"),
                func.pg_database_size(literal_column("current_database()")),
            )
        ).one()
        url = self._engine.url
        return {
            "version": version,
            "place": f"{url.host or 'local socket'}/{url.database}",
            "size": int(size),
            "free": 0,
        }

    def _analyze(self) -> list[str]:
        with self._engine.connect() as connection:
            connection.execution_options(isolation_level="AUTOCOMMIT").exec_driver_sql("ANALYZE")
        return ["gathered statistics (ANALYZE)"]

    def _compact(self, before: DatabaseFacts) -> list[str]:
        """In the queue of the writers, so that none of them finds the file locked."""
        steps = []
        queue = WriteQueue(Path(self._engine.url.database or ""), patience=BUSY_TIMEOUT)
        with self._connected() as connection:
            driver = cast("sqlite3.Connection", connection.connection.driver_connection)
            try:
                queue.enter()
                # Queries name their indexes; with statistics SQLite chooses worse where they do
                # not, so that what somebody gathered is removed.
                if driver.execute(_HAS_STATISTICS).fetchone():
                    driver.execute("DELETE FROM sqlite_stat1")
                    driver.execute("ANALYZE sqlite_schema")
                    steps.append("removed the planner's statistics")
                if before.free > before.size * _WORTH_COMPACTING:
                    driver.execute("VACUUM")
                    steps.append("rewrote the file without its empty pages (VACUUM)")
                driver.execute("PRAGMA wal_checkpoint(PASSIVE)")
                steps.append("wrote the log back into the file (checkpoint)")
            except sqlite3.Error as error:
                raise StorageFailed(
                    f"The database could not be compacted: {error}.",
                    hint="VACUUM needs as much free space on the disk as the database takes.",
                ) from error
            finally:
                queue.close()
        return steps


_HAS_STATISTICS = "SELECT 1 FROM sqlite_schema WHERE name = 'sqlite_stat1'"
