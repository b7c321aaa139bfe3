"""A real server in processes of its own, on free loopback ports."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

PROGRAM = Path(__file__).with_name("served.py")
READY = re.compile(r"UCM is ready: https://127\.0\.0\.1:(\d+) .*http://127\.0\.0\.1:(\d+)\)")


class Served:
    """A running server."""

    def __init__(self, data_dir: Path, **options: Any) -> None:
        self.data_dir = data_dir
        self.log_path = data_dir / "log"
        options = {"data_dir": str(data_dir), "https_port": 0, "http_port": 0, **options}
        self._log = self.log_path.open("wb")
        self.begin = time.monotonic()
        self.process = subprocess.Popen(
            [sys.executable, str(PROGRAM), json.dumps(options)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            start_new_session=True,
        )
        assert self.process.stdout is not None
        self.banner = self.process.stdout.readline()
        self.ready_after = time.monotonic() - self.begin
        match = READY.match(self.banner)
        assert match, f"no ready line: {self.banner!r}\n{self.log}"
        self.https, self.http = (int(group) for group in match.groups())

    @property
    def log(self) -> str:
        return self.log_path.read_text(errors="replace")

    def tls(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=self.data_dir / "tls" / "server.crt")

    def connect(self, *, plain: bool = False, timeout: float = 15.0) -> socket.socket:
        sock = socket.create_connection(("127.0.0.1", self.http if plain else self.https), timeout)
        return sock if plain else self.tls().wrap_socket(sock, server_hostname="localhost")

    def client(self, *, plain: bool = False, timeout: float = 15.0) -> http.client.HTTPConnection:
        if plain:
            return http.client.HTTPConnection("127.0.0.1", self.http, timeout=timeout)
        return http.client.HTTPSConnection(
            "localhost", self.https, timeout=timeout, context=self.tls()
        )

    def request(
        self, method: str, path: str, body: Any = None, *, plain: bool = False, **headers: str
    ) -> tuple[http.client.HTTPResponse, bytes]:
        client = self.client(plain=plain)
        try:
            names = {name.replace("_", "-"): value for name, value in headers.items()}
            client.request(method, path, body, names)
            response = client.getresponse()
            return response, response.read()
        finally:
            client.close()

    def raw(self, data: bytes, *, plain: bool = False, timeout: float = 15.0) -> bytes:
        """Send bytes as they are and read until the server closes."""
        with self.connect(plain=plain, timeout=timeout) as sock:
            sock.sendall(data)
            return read_all(sock)

    def children(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children()

    def scheduler_pids(self) -> list[int]:
        """Every scheduler that was ever started, in order."""
        path = self.data_dir / "scheduler.log"
        return [int(line) for line in path.read_text().split()] if path.exists() else []

    def worker_pids(self) -> set[int]:
        known = set(eventually(self.scheduler_pids))
        return {child.pid for child in self.children()} - known

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.process.pid, number)

    def wait(self, timeout: float = 20.0) -> int:
        return self.process.wait(timeout)

    def end(self) -> None:
        children = self.children() if self.process.poll() is None else []
        if self.process.poll() is None:
            self.signal(signal.SIGQUIT)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(10)
        for child in children:
            if child.is_running():
                child.kill()
        assert self.process.stdout is not None
        self.process.stdout.close()
        self._log.close()


def read_all(sock: socket.socket) -> bytes:
    parts = []
    while True:
        try:
            part = sock.recv(65536)
        except (ConnectionResetError, ssl.SSLEOFError):
            break
        if not part:
            break
        parts.append(part)
    return b"".join(parts)


def eventually(check: Callable[[], Any], timeout: float = 15.0) -> Any:
    """The first true value of `check`; fails when there is none in time."""
    end = time.monotonic() + timeout
    while True:
        value = check()
        if value:
            return value
        assert time.monotonic() < end, f"never came true: {check}"
        time.sleep(0.05)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Served]]:
    """Start servers that end with the test."""
    started: list[Served] = []

    def begin(**options: Any) -> Served:
        data_dir = options.pop("data_dir", tmp_path)
        started.append(Served(data_dir, **options))
        return started[-1]

    yield begin
    for served in started:
        served.end()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """One server with short deadlines for the tests of a module that do not stop or signal it."""
    one = Served(
        tmp_path_factory.mktemp("served"),
        limits={
            "header_time": 1.5,
            "idle_time": 2.0,
            "body_grace": 1.5,
            "body_min_rate": 10_000,
            "body_bytes": 4_000_000,
            "body_memory": 100_000,
            "write_stall": 2.0,
        },
    )
    yield one
    one.end()
