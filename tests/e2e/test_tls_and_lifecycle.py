"""The life of a real server: its TLS, its signals, its first password, its master key."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests

from ucm.testing.server import PASSWORD, CallFailed, RunningServer

openssl_peer = pytest.mark.peer("openssl")


def eventually(condition: Callable[[], Any]) -> Any:
    """The first true answer within 20 seconds."""
    deadline = time.monotonic() + 20
    while not (answer := condition()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.1)
    return answer


def s_client(server: RunningServer, trusted: Path, *, host: str = "localhost") -> str:
    """What openssl says of the server's TLS; fails when the certificate is not trusted."""
    address = server.https.removeprefix("https://")
    verify = ["-verify_return_error", "-verify_hostname", host, "-CAfile", str(trusted)]
    done = subprocess.run(
        ["openssl", "s_client", "-connect", address, "-servername", host, *verify],
        input="",
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def ucm(server: RunningServer, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A command beside the running server."""
    return subprocess.run(
        [sys.executable, "-m", "ucm.cli.main", *arguments],
        env=server.environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@openssl_peer
def test_openssl_verifies_the_self_made_certificate_and_its_replacement(
    start_server, tmp_path: Path
) -> None:
    server: RunningServer = start_server()
    first = tmp_path / "first.crt"
    shutil.copy(server.certificate, first)
    shown = s_client(server, first)
    assert "Verify return code: 0 (ok)" in shown
    assert "TLSv1.3" in shown
    for address in ("127.0.0.1", "localhost"):
        url = f"{server.https.replace('127.0.0.1', address)}/api/health/live"
        assert requests.get(url, verify=str(first), timeout=30).status_code == 200

    # The replacement is issued by the server itself: certificate, chain and key from its API.
    ca_id = server.create_root("Web Root")
    body = {"ca_id": ca_id, "cn": "localhost", "san": ["dns:localhost", "ip:127.0.0.1"]}
    issued = server.call("POST", "/api/v2/certificates", json=body | {"key_type": "EC-P256"})
    export = f"/api/v2/certificates/{issued['data']['id']}/export"
    key = server.call("POST", export, json={"format": "key"})
    chain = server.call("GET", f"{export}?format=pem&include_chain=true")
    root = tmp_path / "root.pem"
    root.write_bytes(server.call("GET", f"/api/v2/cas/{ca_id}/export?format=pem"))
    before = server.process.pid if server.process else 0
    (server.data_dir / "tls" / "server.key").write_bytes(key)
    server.certificate.write_bytes(chain)
    assert "Web Root" in s_client(server, root)
    assert server.process is not None
    assert (server.process.pid, server.process.poll()) == (before, None)
    live = f"{server.https}/api/health/live"
    assert requests.get(live, verify=str(root), timeout=30).status_code == 200


def test_a_reload_under_load_breaks_no_request_and_loses_nothing(start_server) -> None:
    server: RunningServer = start_server(UCM_WORKERS="2")
    ca_id = server.create_root()
    stop, failures, issued = threading.Event(), [], []

    def work(number: int) -> None:
        client = requests.Session()
        client.trust_env = False
        count = 0
        while not stop.is_set():
            count += 1
            name = f"w{number}-{count}.example"
            try:
                answer = client.post(
                    f"{server.https}/api/v2/certificates",
                    json={"ca_id": ca_id, "cn": name, "key_type": "EC-P256"},
                    headers={"X-API-Key": server.api_key},
                    verify=str(server.certificate),
                    timeout=60,
                )
                if answer.status_code == 201:
                    issued.append(name)
                else:
                    failures.append(f"{answer.status_code} {answer.text}")
            except requests.RequestException as error:
                failures.append(repr(error))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    try:
        eventually(lambda: len(issued) > 10)
        pids = {server.call("GET", "/api/v2/system/service/status")["data"]["pid"]}
        assert server.process is not None
        server.process.send_signal(signal.SIGHUP)
        seen = len(issued)
        eventually(
            lambda: server.call("GET", "/api/v2/system/service/status")["data"]["pid"] not in pids
        )
        eventually(lambda: len(issued) > seen + 20)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert failures == []
    assert server.call("GET", "/api/v2/certificates")["meta"]["total"] == len(issued)


def test_stop_start_and_what_is_kept(start_server) -> None:
    server: RunningServer = start_server()
    ca_id = server.create_root("Kept Root")
    certificate, master = server.certificate.read_bytes(), server.data_dir / "master.key"
    key = master.read_bytes()
    checked = ucm(server, "doctor")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "everything is in order" in checked.stdout
    assert "in use (by UCM, if it runs)" in checked.stdout

    assert server.stop() == 0
    assert "Traceback" not in server.log
    server.start()
    assert server.call("GET", f"/api/v2/cas/{ca_id}")["data"]["common_name"] == "Kept Root"
    assert server.certificate.read_bytes() == certificate
    assert master.read_bytes() == key
    assert "shown only this once" not in server.log


def test_a_data_directory_that_others_may_read_is_refused(start_server, tmp_path: Path) -> None:
    (tmp_path / "ucm-data").mkdir()
    (tmp_path / "ucm-data").chmod(0o755)
    with pytest.raises(RuntimeError) as refused:
        start_server(signed_in=False)
    assert "has mode 0755: others may read private data" in str(refused.value)
    assert f"chmod 700 {tmp_path / 'ucm-data'}" in str(refused.value)
    assert "Traceback" not in str(refused.value)
    assert not list((tmp_path / "ucm-data").iterdir())


def test_the_made_password_is_printed_once_and_opens_the_door(start_server) -> None:
    server: RunningServer = start_server(signed_in=False, UCM_ADMIN_PASSWORD="")
    shown = re.findall(r"shown only this once: (\S+)", server.log)
    assert len(shown) == 1
    login = {"username": "admin", "password": shown[0]}
    answer = server.call("POST", "/api/v2/auth/login", json=login)["data"]
    assert answer["force_password_change"] is True
    wrong = server.request("POST", "/api/v2/auth/login", json=login | {"password": PASSWORD})
    assert wrong.status_code == 401
    assert server.stop() == 0
    server.start()
    assert len(re.findall("shown only this once", server.log)) == 1
    assert server.log.count(shown[0]) == 1


def test_without_its_master_key_the_server_is_safe_and_recovers_by_itself(
    start_server, tmp_path: Path
) -> None:
    server: RunningServer = start_server()
    ca_id = server.create_root()
    order = {"ca_id": ca_id, "cn": "a.example", "key_type": "EC-P256"}
    kept = server.call("POST", "/api/v2/certificates", json=order)["data"]["id"]
    assert server.stop() == 0
    master = server.data_dir / "master.key"
    master.rename(tmp_path / "apart")
    server.start()

    assert not master.exists(), "no second key over the first"
    health = server.session.get(
        f"{server.https}/health", verify=str(server.certificate), timeout=30
    ).json()
    assert health["safe_mode"] is True
    assert "/" not in health["safe_mode_reason"]
    assert server.request("GET", "/health/ready").json()["safe_mode"] is True
    status = server.call("GET", "/api/v2/system/security/encryption-status")["data"]
    assert str(master) in status["safe_mode_reason"], "the administrator is told where"
    assert "ERROR" in server.log
    for path, body in (
        ("/api/v2/certificates", order),
        ("/api/v2/cas", {"common_name": "X", "type": "root", "key_type": "EC-P256"}),
        (f"/api/v2/certificates/{kept}/export", {"format": "key"}),
    ):
        with pytest.raises(CallFailed) as refused:
            server.call("POST", path, json=body)
        assert refused.value.answer.status_code == 503
        assert refused.value.answer.json()["safe_mode"] is True
        assert refused.value.answer.headers["Retry-After"]
    assert server.call("GET", f"/api/v2/certificates/{kept}")["data"]["status"] == "valid"
    checked = ucm(server, "doctor")
    assert checked.returncode == 1
    assert "put the right master key back" in checked.stdout

    shutil.copy(tmp_path / "apart", master)
    master.chmod(0o600)
    eventually(lambda: server.request("POST", "/api/v2/certificates", json=order).ok)
    assert "safe_mode" not in server.request("GET", "/health").json()
    assert b"PRIVATE KEY" in server.call(
        "POST", f"/api/v2/certificates/{kept}/export", json={"format": "key"}
    )
