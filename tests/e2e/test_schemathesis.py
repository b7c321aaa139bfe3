"""A running server against the OpenAPI document that it serves, as another tool reads it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ucm.testing.server import RunningServer

SECONDS = 240
"""It takes a minute; machines that do other things besides take longer."""
EXCLUDED = {
    "/api/v2/system/security/rotate-master-key": "works for minutes on what the others made",
}
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "negative_data_rejection",
    "ignored_auth",
)


def with_something_to_find(server: RunningServer) -> None:
    """One of everything, and keys and accounts before those in use: generated ids are small."""
    ca_id = server.create_root()
    body = {"ca_id": ca_id, "cn": "www.example.org", "key_type": "EC-P256"}
    server.call("POST", "/api/v2/certificates", json=body)
    for number in range(8):
        user = {"username": f"u{number}", "password": f"Schema 7 run {number}!", "role": "viewer"}
        server.call("POST", "/api/v2/users", json=user | {"email": f"u{number}@example.org"})
        server.sign_in()


@pytest.mark.timeout(SECONDS + 60)
def test_the_running_server_keeps_to_its_document(start_server, tmp_path: Path) -> None:
    server: RunningServer = start_server()
    with_something_to_find(server)
    command = [
        *(sys.executable, "-m", "schemathesis.cli", "run"),
        f"{server.https}/api/docs/openapi.json",
        *("--tls-verify", str(server.certificate)),
        *("--header", f"X-API-Key: {server.api_key}"),
        *("--checks", ",".join(CHECKS)),
        *("--phases", "coverage"),  # every field's kinds and limits; chance is for other tests
        *("--request-timeout", "60"),
        *("--generation-deterministic", "--continue-on-failure"),
        *("--suppress-health-check", "all"),
        *("--warnings", "off"),
        *(part for path in EXCLUDED for part in ("--exclude-path", path)),
    ]
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env={**os.environ, "SCHEMATHESIS_HOOKS": str(Path(__file__).with_name("quick_keys.py"))},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-12000:] + done.stderr[-2000:]
    assert "unforeseen error" not in server.log
