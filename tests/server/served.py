"""The application and the program that the server tests run in a process of its own."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

from flask import Flask, Response, request

from ucm.api.hotpath import HotAnswer, HotRequest
from ucm.runtime.clock import SystemClock, SystemIds
from ucm.server.config import Limits, ServerConfig
from ucm.server.selfsigned import ensure_server_certificate
from ucm.server.serve import serve
from ucm.server.tls import FileTLSMaterialSource


class Hot:
    """Answers what it knows by heart and leaves the rest to the application."""

    body_bytes = 100

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix

    def answer(self, request: HotRequest) -> Any:
        if request.path.endswith("/unknown") or request.body == b"unknown":
            return None
        answer = HotAnswer(200, ((b"x-hot", request.method.encode()),), b"hot " + request.body)
        return self.later(answer) if request.path.endswith("/later") else answer

    async def later(self, answer: HotAnswer) -> HotAnswer:
        await asyncio.sleep(0.01)
        return answer


def make_application(data_dir: Path) -> Flask:
    if (data_dir / "application-fails").exists():
        raise RuntimeError("the test asked the application not to start")
    app = Flask("served")
    app.protocol_prefixes = ("/ocsp", "/cdp")
    app.shutting_down = threading.Event()
    gone = data_dir / "closed"

    def close() -> None:
        gone.touch()

    app.close = close
    app.client_ca_certificates = lambda: authorities_in(data_dir)
    app.hot_paths = (Hot("/ocsp/hot"),)

    @app.get("/hello")
    def hello() -> Response:
        return Response("hello\n", mimetype="text/plain")

    @app.route("/ocsp/<path:rest>", methods=["GET", "POST"])
    def ocsp(rest: str) -> Response:
        return Response(request.get_data() or rest, mimetype="text/plain")

    @app.get("/pid")
    def pid() -> dict[str, int]:
        return {"pid": os.getpid()}

    @app.get("/ready")
    def ready() -> tuple[str, int]:
        return ("no", 503) if app.shutting_down.is_set() else ("yes", 200)

    @app.route("/environ", methods=["GET", "POST"])
    def environ() -> dict[str, Any]:
        tls = request.environ["ucm.tls"]
        shown = {
            key: value
            for key, value in request.environ.items()
            if isinstance(value, str | int | list) and not key.startswith("werkzeug")
        }
        shown["ucm.client"] = list(request.environ["ucm.client"])
        if tls is not None:
            shown["tls"] = {
                "version": tls["version"],
                "peer": tls["peer_certificate"].hex() if tls["peer_certificate"] else None,
                "tls_unique": tls["tls_unique"].hex() if tls["tls_unique"] else None,
            }
        return shown

    @app.post("/echo")
    def echo() -> dict[str, Any]:
        body = request.get_data()
        return {"length": len(body), "sha256": hashlib.sha256(body).hexdigest()}

    @app.get("/sleep/<float:seconds>")
    def sleep(seconds: float) -> str:
        time.sleep(seconds)
        return "slept\n"

    @app.get("/spin/<float:seconds>")
    def spin(seconds: float) -> str:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            pass
        return "spun\n"

    @app.get("/stream/<int:mebibytes>")
    def stream(mebibytes: int) -> Response:
        piece = b"0123456789abcdef" * 1024

        def parts() -> Any:
            try:
                for _ in range(mebibytes * 64):
                    yield piece
            finally:
                (data_dir / "stream-closed").touch()

        return Response(parts(), mimetype="application/octet-stream")

    @app.get("/big/<int:mebibytes>")
    def big(mebibytes: int) -> Response:
        return Response(b"x" * (mebibytes << 20), mimetype="application/octet-stream")

    @app.get("/ticks")
    def ticks() -> Response:
        def parts() -> Any:
            yield "first\n"
            time.sleep(0.5)
            yield "second\n"

        return Response(parts(), mimetype="text/plain")

    @app.get("/nothing")
    def nothing() -> tuple[str, int]:
        return "", 204

    @app.get("/fails")
    def fails() -> str:
        raise ValueError("the test asked for it")

    @app.get("/breaks")
    def breaks() -> Response:
        def parts() -> Any:
            yield b"x" * 300_000
            raise ValueError("the test asked for it")

        return Response(parts(), mimetype="text/plain")

    app.config["PROPAGATE_EXCEPTIONS"] = True
    return app


def authorities_in(data_dir: Path) -> list[bytes]:
    if (data_dir / "authorities-fail").exists():
        raise RuntimeError("the test asked for it")
    return [path.read_bytes() for path in data_dir.glob("*.authority")]


def run_scheduler(data_dir: Path) -> None:
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    with (data_dir / "scheduler.log").open("a") as file:
        file.write(f"{os.getpid()}\n")
    if (data_dir / "scheduler-fails").exists():
        raise RuntimeError("the test asked for it")
    stop.wait()


def main() -> int:
    logging.basicConfig(level=logging.INFO, format="%(process)d %(name)s %(levelname)s %(message)s")
    options = json.loads(sys.argv[1])
    options["data_dir"] = data_dir = Path(options["data_dir"])
    options["limits"] = Limits(**options.get("limits", {}))
    options["trusted_proxies"] = tuple(options.get("trusted_proxies", ()))
    config = ServerConfig(**options)
    ensure_server_certificate(config, clock=SystemClock(), ids=SystemIds())
    return serve(
        config,
        application=lambda: make_application(data_dir),
        worker_main=lambda: run_scheduler(data_dir),
        tls=FileTLSMaterialSource(config),
    )


if __name__ == "__main__":
    sys.exit(main())
