"""A real UCM server in a directory of its own, for end-to-end tests and benchmarks."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests

PASSWORD = "Run-time 7 only!"  # noqa: S105 - of servers that live for a test
READY_SECONDS = 30


class CallFailed(Exception):
    """An API call was not a success; ``answer`` is what came back."""

    def __init__(self, call: str, answer: requests.Response) -> None:
        super().__init__(f"{call}: {answer.status_code} {answer.text[:800]}")
        self.answer = answer


def free_port() -> int:
    """A TCP port on loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class RunningServer:
    """A started server and a client for its API that signs in by API key."""

    data_dir: Path
    environment: dict[str, str]
    https: str
    http: str
    process: subprocess.Popen[bytes] | None = None
    started_in: float = 0.0
    api_key: str = ""
    session: requests.Session = field(default_factory=requests.Session)

    @property
    def certificate(self) -> Path:
        """The server's own certificate, which the client trusts and nothing else."""
        return self.data_dir / "tls" / "server.crt"

    @property
    def log_file(self) -> Path:
        """Everything the server's processes print."""
        return self.data_dir.parent / f"{self.data_dir.name}.log"

    @property
    def log(self) -> str:
        """What the server's processes printed so far."""
        return self.log_file.read_text(errors="replace")

    def start(self) -> None:
        """Start and wait until ready. Raises ``RuntimeError`` with the log when that fails."""
        started = time.perf_counter()
        with self.log_file.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "ucm.cli.main", "serve"],
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = started + READY_SECONDS
        while time.perf_counter() < deadline:
            if self.process.poll() is not None:
                raise RuntimeError(f"the server ended at start: {self.log[-4000:]}")
            # OSError: the certificate file is not there yet
            with contextlib.suppress(requests.RequestException, OSError):
                live = f"{self.https}/api/health/live"
                if requests.get(live, verify=str(self.certificate), timeout=5).ok:
                    self.started_in = time.perf_counter() - started
                    return
            time.sleep(0.02)
        raise RuntimeError(f"not ready after {READY_SECONDS} s: {self.log[-4000:]}")

    def stop(self) -> int:
        """SIGTERM, then wait; the exit code."""
        if self.process is None:
            return 0
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.kill()
            raise

    def kill(self) -> None:
        """SIGKILL to every process of the server, as a power failure would."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(10)
        self.session.close()  # its connections are dead
        self._wait_until_gone()

    def _wait_until_gone(self) -> None:
        """The parent is gone first: its children may hold the port for some moments more."""
        deadline = time.perf_counter() + READY_SECONDS
        while time.perf_counter() < deadline:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", int(self.https.rpartition(":")[2]))):
                    return
            time.sleep(0.01)
        raise RuntimeError(f"somebody still listens at {self.https}")

    def request(self, method: str, path: str, **kwargs: Any) -> requests.Response:
        """One call, whatever the answer."""
        headers = {"X-API-Key": self.api_key} if self.api_key else {}
        headers |= kwargs.pop("headers", {})
        kwargs.setdefault("timeout", 60)
        return self.session.request(
            method, self.https + path, headers=headers, verify=str(self.certificate), **kwargs
        )

    def call(self, method: str, path: str, **kwargs: Any) -> Any:
        """One call that must succeed: the decoded JSON body, or the bytes of a file."""
        answer = self.request(method, path, **kwargs)
        if not answer.ok:
            raise CallFailed(f"{method} {path}", answer)
        if "json" in answer.headers.get("Content-Type", ""):
            return answer.json()
        return answer.content

    def sign_in(self, *, username: str = "admin", password: str = PASSWORD) -> str:
        """Make an API key that may do everything the user may, and use it from now on."""
        self.api_key = ""
        body = {"username": username, "password": password}
        login = self.call("POST", "/api/v2/auth/login", json=body)["data"]
        key = self.call(
            "POST",
            "/api/v2/account/apikeys",
            json={"name": f"key {time.monotonic_ns()}", "permissions": ["*"]},
            headers={"X-CSRF-Token": login["csrf_token"]},
        )
        self.session.cookies.clear()
        self.api_key = str(key["data"]["key"])
        return self.api_key

    def create_root(self, name: str = "Test Root", **fields: Any) -> int:
        """A P-256 root authority; its id."""
        body = {"common_name": name, "type": "root", "key_algo": "ECDSA", "key_size": "prime256v1"}
        return int(self.call("POST", "/api/v2/cas", json=body | fields)["data"]["id"])


@contextlib.contextmanager
def running_server(
    directory: Path, *, environment: Mapping[str, str] | None = None, signed_in: bool = True
) -> Iterator[RunningServer]:
    """A ready server with its data below ``directory``; stopped at the end."""
    https, http = free_port(), free_port()
    env = {k: v for k, v in os.environ.items() if not k.startswith("UCM_")}
    env |= {
        "UCM_DATA_DIR": str(directory / "ucm-data"),
        "UCM_HTTPS_PORT": str(https),
        "UCM_HTTP_PORT": str(http),
        "UCM_ADMIN_PASSWORD": PASSWORD,
        **(environment or {}),
    }
    server = RunningServer(
        Path(env["UCM_DATA_DIR"]), env, f"https://127.0.0.1:{https}", f"http://127.0.0.1:{http}"
    )
    server.session.trust_env = False
    try:
        server.start()
        if signed_in:
            server.sign_in()
        yield server
    finally:
        server.session.close()
        if server.process is not None and server.process.poll() is None:
            server.stop()
