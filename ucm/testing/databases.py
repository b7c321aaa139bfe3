"""Fresh databases for tests, on SQLite and PostgreSQL alike: empty, or copies of a prepared one."""

import itertools
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from ucm.testing.postgres import (
        PostgresCluster,
    )  # needs psycopg, which a run on SQLite does without

Dialect = Literal["sqlite", "postgresql"]
Prepare = Callable[[str], None]


class DatabaseFactory:
    """Hands out database URLs that nobody else uses.

    `cluster` is called when the first PostgreSQL database is asked for: a run on SQLite needs none.
    """

    def __init__(self, directory: Path, *, cluster: Callable[[], "PostgresCluster"]) -> None:
        self.directory = directory
        self._cluster = cluster
        self._numbers = itertools.count(1)
        self._templates: dict[tuple[Dialect, str], str] = {}

    def fresh(self, dialect: Dialect) -> str:
        """Return the URL of a new, empty database."""
        return self._create(dialect, template=None)

    def prepared(self, dialect: Dialect, *, label: str, prepare: Prepare) -> str:
        """Return the URL of a new copy of a database that `prepare` filled.

        `prepare` runs once per label and dialect. It gets a URL, and must leave no connection
        open: PostgreSQL copies only what is at rest.
        """
        template = self._templates.get((dialect, label))
        if template is None:
            url = self._create(dialect, template=None)
            prepare(url)
            template = _name_of(url)
            self._templates[dialect, label] = template
        return self._create(dialect, template=template)

    def discard(self, url: str) -> None:
        """Remove a database; whoever is still connected to it is cut."""
        name = _name_of(url)
        if url.startswith("postgresql"):
            self._cluster().drop_database(name)
            return
        for suffix in ("", "-wal", "-shm"):
            (self.directory / f"{name}{suffix}").unlink(missing_ok=True)

    def _create(self, dialect: Dialect, *, template: str | None) -> str:
        number = next(self._numbers)
        if dialect == "postgresql":
            name = f"ucm_test_{number}"
            return self._cluster().create_database(name, template=template or "template0")
        path = self.directory / f"ucm_test_{number}.db"
        if template is not None:
            for suffix in ("", "-wal"):
                source = self.directory / f"{template}{suffix}"
                if source.exists():
                    shutil.copyfile(source, f"{path}{suffix}")
        return f"sqlite:///{path}"


def _name_of(url: str) -> str:
    return url.partition("?")[0].rpartition("/")[2]
