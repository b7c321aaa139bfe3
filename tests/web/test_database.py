"""Size, care and integrity of the database."""

from __future__ import annotations

import sqlite3
import threading
import time

import pytest
from sqlalchemy import text

from ucm.api.actor import Actor
from ucm.api.services import Target
from ucm.testing.bulk import load_certificates
from ucm.web.v2.database import DatabaseItem, DatabaseStatsItem, IntegrityItem, OptimizeItem

PATH = "/api/v2/system/database"


def only_sqlite(installation):
    if installation.container.engine.dialect.name != "sqlite":
        pytest.skip("PostgreSQL looks after its own files")


def test_the_status_names_the_database_and_no_password(installation, admin):
    found = admin.get("/api/v2/database/status").json["data"]
    item = DatabaseItem.model_validate(found, strict=True, extra="forbid")
    assert item.dialect == installation.container.engine.dialect.name
    assert item.size_mb > 0
    password = installation.container.engine.url.password
    assert not password or str(password) not in item.location


def test_the_numbers_of_objects_are_right(installation, admin):
    load_certificates(installation.container.engine, 30, now=installation.clock.now())
    found = admin.get(f"{PATH}/stats").json["data"]
    item = DatabaseStatsItem.model_validate(found, strict=True, extra="forbid")
    assert (item.counts["certificates"], item.counts["users"]) == (30, 4)
    assert (item.last_vacuum, item.last_check) == (None, None)
    admin.post(f"{PATH}/optimize")
    admin.post(f"{PATH}/integrity-check")
    again = admin.get(f"{PATH}/stats").json["data"]
    assert again["last_vacuum"] is not None
    assert again["last_check"] is not None


def test_optimising_gives_empty_space_back(installation, admin):
    only_sqlite(installation)
    engine = installation.container.engine
    load_certificates(engine, 3000, now=installation.clock.now())
    full = admin.post(f"{PATH}/optimize").json["data"]
    OptimizeItem.model_validate(full, strict=True, extra="forbid")
    assert not any("VACUUM" in step for step in full["steps"])
    with engine.begin() as connection:
        connection.execute(text("DELETE FROM core_certificate_term"))
        connection.execute(text("DELETE FROM core_certificate"))
    freed = admin.post(f"{PATH}/optimize").json["data"]
    assert any("VACUUM" in step for step in freed["steps"])
    assert freed["size_mb_after"] < freed["size_mb_before"] / 2
    rows = installation.audit("system_optimize")
    assert rows[0].details["steps"] == freed["steps"]


def test_statistics_that_mislead_the_planner_are_removed(installation, admin):
    only_sqlite(installation)
    engine = installation.container.engine
    load_certificates(engine, 50, now=installation.clock.now())
    with engine.begin() as connection:
        connection.execute(text("ANALYZE"))
    steps = admin.post(f"{PATH}/optimize").json["data"]["steps"]
    assert any("statistics" in step for step in steps)
    with engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM sqlite_stat1")).scalar_one() == 0


def test_writers_wait_for_it_and_are_served(installation, admin):
    """Optimising goes through the queue of the writers: none of them fails."""
    engine, uow = installation.container.engine, installation.container.uow
    load_certificates(engine, 3000, now=installation.clock.now())
    with engine.begin() as connection:
        connection.execute(text("DELETE FROM core_certificate_term"))
        connection.execute(text("DELETE FROM core_certificate"))
    stop, written, failures = threading.Event(), [], []

    def write():
        while not stop.is_set():
            try:
                with uow.begin(Actor.system("tests")) as tx:
                    tx.audit("system_integrity_check", target=Target("test"))
            except Exception as error:  # noqa: BLE001 - any failure is the finding
                failures.append(error)
                return
            written.append(time.monotonic())

    threads = [threading.Thread(target=write) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        answer = admin.post(f"{PATH}/optimize")
        ended = time.monotonic()
        time.sleep(0.1)
    finally:
        stop.set()
        for thread in threads:
            thread.join(30)
    assert answer.status_code == 200, answer.json
    assert failures == []
    assert any(moment > ended for moment in written)


def test_a_sound_database_is_called_sound(installation, admin):
    found = admin.post(f"{PATH}/integrity-check").json
    item = IntegrityItem.model_validate(found["data"], strict=True, extra="forbid")
    assert (item.ok, item.errors) == (True, [])
    assert installation.audit("system_integrity_check")[0].success is True


def test_a_row_without_its_parent_is_found(installation, admin):
    only_sqlite(installation)
    file = installation.container.engine.url.database
    raw = sqlite3.connect(file)
    raw.execute("PRAGMA foreign_keys=OFF")
    raw.execute("INSERT INTO core_certificate_term (term, certificate_id) VALUES ('x', 99)")
    raw.commit()
    raw.close()
    found = admin.post(f"{PATH}/integrity-check").json
    assert found["data"]["ok"] is False
    assert "core_certificate_term" in found["data"]["errors"][0]
    assert found["message"] == "The database is damaged"
    assert installation.audit("system_integrity_check")[0].success is False
