"""The nginx configuration of the operators' guide, as it is printed there, before a real server."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests
from requests.adapters import HTTPAdapter

from ucm.testing.server import PASSWORD, RunningServer, free_port

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "operators.md"
BLOCK = re.compile(r"^```\n(server \{\n.*?)^```$", re.MULTILINE | re.DOTALL)
AROUND = """\
{user}
daemon off;
pid {dir}/nginx.pid;
error_log {dir}/error.log;
events {{}}
http {{
access_log off;
client_body_temp_path {dir}/body;
proxy_temp_path {dir}/proxy;
fastcgi_temp_path {dir}/fastcgi;
uwsgi_temp_path {dir}/uwsgi;
scgi_temp_path {dir}/scgi;
{servers}
}}
"""
CLIENT = "127.0.0.2"  # the proxy itself is 127.0.0.1, which is the trusted one
STRANGER = "127.0.0.3"

pytestmark = pytest.mark.peer("nginx", "openssl")


@dataclass(frozen=True)
class Front:
    """A running nginx and the server behind it."""

    server: RunningServer
    https: str
    http: str
    certificate: Path


class _From(HTTPAdapter):
    """Connects from a given address."""

    def __init__(self, address: str) -> None:
        self.address = address
        super().__init__()

    def init_poolmanager(self, *args: object, **kwargs: object) -> None:
        super().init_poolmanager(*args, source_address=(self.address, 0), **kwargs)


def session_from(address: str) -> requests.Session:
    """A client with an address of its own."""
    session = requests.Session()
    session.trust_env = False
    session.mount("https://", _From(address))
    session.headers["Host"] = "ca.example.org"
    return session


def configured(server: RunningServer, directory: Path, *, https: int, http: int) -> str:
    """The guide's configuration with the paths and ports of this test."""
    [servers] = BLOCK.findall(GUIDE.read_text())
    for printed, here in (
        ("listen 443 ssl", f"listen 127.0.0.1:{https} ssl"),
        ("listen 80;", f"listen 127.0.0.1:{http};"),
        ("/etc/ssl/ca.example.org.crt", str(directory / "front.crt")),
        ("/etc/ssl/ca.example.org.key", str(directory / "front.key")),
        ("https://127.0.0.1:8443", server.https),
        ("http://127.0.0.1:8080", server.http),
        ("/var/lib/ucm/data/tls/server.crt", str(server.certificate)),
    ):
        assert servers.count(printed) == 1, f"the guide no longer says {printed}"
        servers = servers.replace(printed, here)
    user = "user root;" if os.geteuid() == 0 else ""
    return AROUND.format(user=user, dir=directory, servers=servers)


@pytest.fixture
def front(start_server, tmp_path: Path) -> Iterator[Front]:
    text = GUIDE.read_text()
    trusted = re.findall(r"UCM_TRUSTED_PROXIES=([\w.]+)", text)
    assert set(trusted) == {"127.0.0.1"}
    server = start_server(
        UCM_TRUSTED_PROXIES=trusted[0],
        UCM_PUBLIC_URL="https://ca.example.org",
        UCM_PUBLIC_HTTP_URL="http://ca.example.org",
    )
    directory = tmp_path / "nginx"
    directory.mkdir()
    make = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    names = ["-subj", "/CN=ca.example.org", "-addext", "subjectAltName=IP:127.0.0.1"]
    files = ["-nodes", "-keyout", "front.key", "-out", "front.crt", "-days", "2"]
    made = [*make, *names, *files]
    subprocess.run(made, cwd=directory, check=True, capture_output=True, timeout=60)
    https, http = free_port(), free_port()
    (directory / "nginx.conf").write_text(configured(server, directory, https=https, http=http))
    program = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    assert program is not None
    arguments = ["-p", str(directory), "-e", str(directory / "error.log"), "-c", "nginx.conf"]
    with (directory / "output").open("wb") as output:
        nginx = subprocess.Popen([program, *arguments], stdout=output, stderr=output)
    try:
        up = Front(
            server,
            f"https://127.0.0.1:{https}",
            f"http://127.0.0.1:{http}",
            directory / "front.crt",
        )
        deadline = time.monotonic() + 15
        while True:
            assert nginx.poll() is None, (directory / "output").read_text()
            assert time.monotonic() < deadline
            try:
                requests.get(up.http, timeout=5)
                break
            except requests.ConnectionError:
                time.sleep(0.05)
        yield up
    finally:
        nginx.terminate()
        nginx.wait(15)


def sign_in(base: str, verify: Path, *, address: str, **headers: str) -> None:
    """A sign-in from that address."""
    answer = session_from(address).post(
        f"{base}/api/v2/auth/login",
        json={"username": "admin", "password": PASSWORD},
        headers=headers,
        verify=str(verify),
        timeout=30,
    )
    assert answer.status_code == 200, answer.text


def last_sign_in(server: RunningServer) -> str:
    """The address that the audit log has for the newest one."""
    logs = server.call("GET", "/api/v2/audit/logs?action=login_success")["data"]
    return max(logs, key=lambda row: row["id"])["ip_address"]


def test_the_api_works_through_the_documented_proxy(front: Front) -> None:
    session, server = session_from(CLIENT), front.server
    body = {"common_name": "Behind nginx", "type": "root", "key_type": "EC-P256"}
    made = session.post(
        f"{front.https}/api/v2/cas",
        json=body,
        headers={"X-API-Key": server.api_key},
        verify=str(front.certificate),
        timeout=60,
    )
    assert made.status_code == 201, made.text
    [row] = server.call("GET", "/api/v2/audit/logs?action=ca_created")["data"]
    assert row["ip_address"] == CLIENT

    login = session.post(
        f"{front.https}/api/v2/auth/login",
        json={"username": "admin", "password": PASSWORD},
        verify=str(front.certificate),
        timeout=30,
    )
    cookie = login.headers["Set-Cookie"]
    assert "Secure" in cookie
    assert "HttpOnly" in cookie

    large = b"x" * (8 * 1024 * 1024)
    refused = session.post(
        f"{front.https}/api/v2/cas",
        data=large,
        headers={"X-API-Key": server.api_key, "Content-Type": "application/json"},
        verify=str(front.certificate),
        timeout=60,
    )
    assert refused.status_code in (400, 413)
    assert refused.json()["success"] is False, "the refusal is UCM's, not nginx's page"


def test_the_forwarded_address_counts_from_the_trusted_proxy_only(front: Front) -> None:
    server = front.server
    sign_in(front.https, front.certificate, address=CLIENT)
    assert last_sign_in(server) == CLIENT
    sign_in(front.https, front.certificate, address=CLIENT, **{"X-Forwarded-For": "198.51.100.7"})
    assert last_sign_in(server) == CLIENT, "what the client claims is overwritten by the proxy"
    sign_in(
        server.https, server.certificate, address=STRANGER, **{"X-Forwarded-For": "198.51.100.7"}
    )
    assert last_sign_in(server) == STRANGER, "nobody but the proxy may say who the client is"


def test_the_plain_port_through_the_proxy_carries_protocols_only(front: Front) -> None:
    def status(path: str) -> int:
        host = {"Host": "ca.example.org"}
        return requests.get(front.http + path, headers=host, timeout=30).status_code

    assert status("/health/live") == 200
    assert status("/api/v2/cas") == 404
    assert status("/") == 404
