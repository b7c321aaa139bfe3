"""A server killed with SIGKILL at any step of an issuance leaves a whole certificate or nothing,
and what a key far away may have signed is never off the record.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import requests
from cryptography import x509
from sqlalchemy import bindparam, create_engine, text

from ucm.api.db import UtcDateTime
from ucm.testing.server import RunningServer

KILLER = Path(__file__).parent / "killer" / "ucm_killer.py"


class Killer:
    """A server with the killer plugin, and its database seen from outside."""

    def __init__(self, server: RunningServer, plan: Path, url: str) -> None:
        self.server = server
        self.plan = plan
        self.url = url

    def rows(self, statement: str, **values: object) -> list[tuple[object, ...]]:
        """The rows of a query."""
        engine = create_engine(self.url)
        with engine.connect() as connection:
            found = [tuple(row) for row in connection.execute(text(statement), values)]
        engine.dispose()
        return found

    def column(self, statement: str, **values: object) -> list[object]:
        """The first column of a query."""
        return [row[0] for row in self.rows(statement, **values)]

    def issue(self, ca_id: int, name: str, description: str = "watched") -> int | None:
        """Issue with a server-side key; the id, or None when the server died."""
        body = {"ca_id": ca_id, "cn": name, "key_type": "ec", "description": description}
        try:
            return int(self.server.call("POST", "/api/v2/certificates", json=body)["data"]["id"])
        except requests.ConnectionError:
            return None

    def steps(self, ca_id: int) -> list[str]:
        """What the killer passes in one issuance; the place in the list is the step's number."""
        trace = self.plan.with_suffix(".trace")
        trace.unlink(missing_ok=True)
        self.plan.write_text("")
        assert self.issue(ca_id, "trace.example") is not None
        return ["", *(line.partition(" ")[2] for line in trace.read_text().splitlines())]

    def kill_at(self, ca_id: int, number: int, name: str) -> bool:
        """Have the server die at a step and start it again; whether it had answered before."""
        self.plan.write_text(str(number))
        answered = self.issue(ca_id, name) is not None
        assert not self.plan.exists(), "the issuance took fewer steps than the trace"
        self.server.kill()
        self.server.start()
        return answered

    def books(self, name: str) -> tuple[int, int, int]:
        """Certificates, audit rows and events that speak of this common name."""
        ids = self.column("SELECT id FROM core_certificate WHERE common_name = :n", n=name)
        audits = self.column(
            "SELECT id FROM core_audit WHERE action = 'certificate_created' AND success"
            " AND (resource_name LIKE :n OR resource_id = :i)",
            n=f"%{name}%",
            i=str(ids[0]) if ids else "none",
        )
        payloads = self.column("SELECT payload FROM core_outbox WHERE name = 'certificate.issued'")
        decoded = [json.loads(p) if isinstance(p, str) else p for p in payloads]
        events = [payload for payload in decoded if name in payload["subject"]]
        return len(ids), len(audits), len(events)

    def check_books(self, name: str, *, answered: bool, at: str) -> bool:
        """Everything of the certificate is there, or nothing; whether it is."""
        found = self.books(name)
        assert found in ((0, 0, 0), (1, 1, 1)), f"killed at {at}"
        complete = found[0] == 1
        assert complete or not answered, f"killed at {at}: the answer was a lie"
        listed = self.server.call("GET", f"/api/v2/certificates?search={name}")["meta"]["total"]
        assert listed == found[0]
        return complete


@pytest.fixture
def killer(database_url: str, start_server, site, tmp_path: Path) -> Killer:
    site.install("killer", KILLER.read_text())
    plan = tmp_path / "plan"
    server: RunningServer = start_server(
        UCM_PLUGINS="default,killer!",
        PYTHONPATH=site.python_path,
        KILLER_PLAN=str(plan),
        UCM_DATABASE_URL=database_url,
        UCM_WORKERS="1",
    )
    return Killer(server, plan, database_url)


@pytest.mark.timeout(300)
def test_killed_at_every_step_the_books_balance(killer: Killer) -> None:
    ca_id = killer.server.create_root()
    steps = killer.steps(ca_id)
    stored = position(steps, "INSERT INTO core_certificate")
    committed = position(steps, "before commit")
    assert position(steps, "lint") < stored < committed
    complete = []
    for number, step in list(enumerate(steps))[1:]:
        name = f"step{number}.example"
        answered = killer.kill_at(ca_id, number, name)
        if killer.check_books(name, answered=answered, at=step):
            complete.append(number)
    assert complete
    assert min(complete) > committed, "what was not committed is not there"
    assert killer.issue(ca_id, "afterwards.example") is not None


@pytest.mark.timeout(300)
def test_what_a_far_key_signed_is_on_record_whenever_the_server_dies(killer: Killer) -> None:
    ca_id = killer.server.create_root(key_backend="killer-far")
    steps = killer.steps(ca_id)
    reserved = position(steps, "INSERT INTO core_intent")
    first_commit = position(steps, "before commit")
    signed = position(steps, "after the signature")
    last_commit = len(steps) - 1 - steps[::-1].index("before commit")
    assert reserved < first_commit < signed < position(steps, "INSERT INTO core_certificate")
    assert signed < last_commit
    complete = []
    elsewhere = {"INSERT INTO core_key", "_term", "_audit", "_outbox", "BEGIN"}  # the other test
    for number in range(reserved, len(steps)):
        if any(part in steps[number] for part in elsewhere):
            continue
        name = f"step{number}.example"
        answered = killer.kill_at(ca_id, number, name)
        if killer.check_books(name, answered=answered, at=steps[number]):
            complete.append(number)
        expected = 0 if number <= first_commit else 1
        assert intents_of(killer, name) == ["done" if number in complete else "signing"] * expected
    assert min(complete) > last_commit
    assert_all_signatures_recorded(killer)

    half_an_hour_passes(killer)
    run_recovery(killer)
    assert not killer.column("SELECT id FROM core_intent WHERE state = 'signing'")
    orphans = killer.column("SELECT serial FROM core_intent WHERE state = 'orphaned'")
    assert len(orphans) >= 6
    audited = killer.column("SELECT details FROM core_audit WHERE action = 'certificate_recovered'")
    details = [json.loads(row) if isinstance(row, str) else row for row in audited]
    assert sorted(row["serial"] for row in details) == sorted(orphans)
    assert_all_signatures_recorded(killer)
    assert killer.issue(ca_id, "afterwards.example") is not None


def position(steps: list[str], wanted: str) -> int:
    """The number of the first step of that name."""
    return next(number for number, step in enumerate(steps) if wanted in step)


def intents_of(killer: Killer, name: str) -> list[object]:
    """The states of the intents for a common name."""
    return killer.column("SELECT state FROM core_intent WHERE subject LIKE :n", n=f"%{name}%")


def assert_all_signatures_recorded(killer: Killer) -> None:
    """Each signature in the key's diary belongs to a certificate or to an intent."""
    diary = killer.plan.with_suffix(".signed").read_text().split()
    certificates = killer.column("SELECT der FROM core_certificate")
    known = {
        x509.load_der_x509_certificate(bytes(der)).tbs_certificate_bytes  # type: ignore[arg-type]
        for der in certificates
    }
    known |= {bytes(tbs) for tbs in killer.column("SELECT tbs FROM core_intent")}  # type: ignore[call-overload]
    assert diary
    assert {bytes.fromhex(line) for line in diary} <= known


def half_an_hour_passes(killer: Killer) -> None:
    """Nobody waits that long: the open intents become older instead."""
    engine = create_engine(killer.url)
    with engine.begin() as connection:
        connection.execute(
            text("UPDATE core_intent SET updated_at = :then").bindparams(
                bindparam("then", datetime.now(UTC) - timedelta(minutes=30), UtcDateTime())
            )
        )
    engine.dispose()


def run_recovery(killer: Killer) -> None:
    """Run the recovery job out of turn and wait for it."""
    job = "/api/v2/system/scheduler/core.recovery"
    wait_for(lambda: killer.server.request("POST", f"{job}/run").status_code == 202)
    wait_for(
        lambda: (
            not killer.column("SELECT id FROM core_intent WHERE state = 'signing'")
            and killer.server.call("GET", f"{job}/runs")["data"][0]["status"] == "succeeded"
        )
    )


def wait_for(condition: Callable[[], bool]) -> None:
    """Within 30 seconds."""
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.2)
