"""A server killed with SIGKILL at any step of an issuance leaves a whole certificate or nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import requests
from sqlalchemy import create_engine, text

from ucm.testing.server import RunningServer

HERE = Path(__file__).parent


def install_killer(site: Path) -> None:
    """Make the killer plugin an installed distribution in ``site``."""
    info = site / "ucm_killer-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: ucm-killer\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[ucm.plugins]\nkiller = ucm_killer:plugin\n")
    source = HERE / "killer" / "ucm_killer.py"
    (site / "ucm_killer.py").write_text(source.read_text())


def issue(server: RunningServer, ca_id: int, name: str, description: str = "") -> int | None:
    """Issue with a server-side key; the id, or None when the server died."""
    body = {"ca_id": ca_id, "cn": name, "key_type": "ec", "description": description}
    try:
        return int(server.call("POST", "/api/v2/certificates", json=body)["data"]["id"])
    except requests.ConnectionError:
        return None


def books(url: str, name: str) -> tuple[int, int, int]:
    """Certificates, audit rows and events that speak of a certificate with this common name."""
    engine = create_engine(url)
    with engine.connect() as connection:

        def column(statement: str, **values: object) -> list[object]:
            return list(connection.execute(text(statement), values).scalars())

        ids = column("SELECT id FROM core_certificate WHERE common_name = :n", n=name)
        audits = column(
            "SELECT id FROM core_audit WHERE action = 'certificate_created' AND success"
            " AND (resource_name LIKE :n OR resource_id = :i)",
            n=f"%{name}%",
            i=str(ids[0]) if ids else "none",
        )
        payloads = column("SELECT payload FROM core_outbox WHERE name = 'certificate.issued'")
    engine.dispose()
    decoded = [json.loads(p) if isinstance(p, str) else p for p in payloads]
    events = [payload for payload in decoded if name in payload["subject"]]
    return len(ids), len(audits), len(events)


@pytest.mark.timeout(600)
def test_killed_at_every_step_the_books_balance(
    start_server, tmp_path: Path, database_url: str
) -> None:
    site, plan = tmp_path / "site", tmp_path / "plan"
    install_killer(site)
    server: RunningServer = start_server(
        UCM_PLUGINS="default,killer!",
        PYTHONPATH=str(site),
        KILLER_PLAN=str(plan),
        UCM_DATABASE_URL=database_url,
        UCM_WORKERS="1",
    )
    ca_id = server.create_root()
    plan.write_text("")
    assert issue(server, ca_id, "trace.example", "watched") is not None
    steps = plan.with_suffix(".trace").read_text().splitlines()
    assert any("lint" in step for step in steps)
    assert any("INSERT INTO core_certificate" in step for step in steps)
    assert any("commit" in step for step in steps)
    died = []
    for number in range(1, len(steps) + 1):
        name = f"step{number}.example"
        plan.write_text(str(number))
        answered = issue(server, ca_id, name, "watched")
        if plan.exists():  # the run took fewer steps than the trace
            assert answered is not None
            continue
        died.append(plan.with_suffix(".died").read_text())
        server.kill()
        server.start()
        certificates, audits, events = books(database_url, name)
        assert certificates in (0, 1), f"killed at {steps[number - 1]}"
        assert (certificates, audits, events) in ((0, 0, 0), (1, 1, 1)), steps[number - 1]
        assert answered is None or certificates == 1
        listed = server.call("GET", f"/api/v2/certificates?search={name}")["meta"]["total"]
        assert listed == certificates
    assert len(died) >= 8, "the trace must reach into the transaction"
    assert issue(server, ca_id, "afterwards.example") is not None
