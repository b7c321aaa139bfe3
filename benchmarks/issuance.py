"""Certificates per second over HTTPS from CSRs, durable, against the disk's limit and against
cfssl.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import requests

from benchmarks import commits, csrs, wrk
from benchmarks.report import Report
from benchmarks.server import cpu_seconds, running
from ucm.testing.server import RunningServer, free_port

CLIENTS = (1, 8, 32)
CPU_MILLISECONDS = 1.5
SIGNING = {
    "signing": {
        "default": {"expiry": "8760h", "usages": ["digital signature", "server auth"]},
    }
}


@contextlib.contextmanager
def cfssl() -> Iterator[str]:
    """``cfssl serve`` with a P-256 authority and no database; its signing URL."""
    program, helper = shutil.which("cfssl"), shutil.which("cfssljson")
    if program is None or helper is None:
        raise RuntimeError("cfssl is missing; on Debian: apt-get install golang-cfssl")
    with tempfile.TemporaryDirectory(prefix="ucm-cfssl-") as name:
        folder = Path(name)
        (folder / "config.json").write_text(json.dumps(SIGNING))
        request = json.dumps({"CN": "Peer Root", "key": {"algo": "ecdsa", "size": 256}})
        made = subprocess.run(
            [program, "gencert", "-initca", "-"],
            input=request.encode(),
            capture_output=True,
            check=True,
            timeout=60,
        )
        authority = json.loads(made.stdout)
        (folder / "ca.pem").write_text(authority["cert"])
        (folder / "ca-key.pem").write_text(authority["key"])
        port = free_port()
        command = [program, "serve", "-address", "127.0.0.1", "-port", str(port), "-loglevel", "5"]
        files = ["-ca", f"{name}/ca.pem", "-ca-key", f"{name}/ca-key.pem"]
        process = subprocess.Popen(
            [*command, *files, "-config", f"{name}/config.json"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            url = f"http://127.0.0.1:{port}/api/v1/cfssl/sign"
            for _ in range(200):
                with contextlib.suppress(requests.ConnectionError):
                    requests.get(url, timeout=2)
                    break
                time.sleep(0.05)
            yield url
        finally:
            process.terminate()
            process.wait(10)


def measure(
    server: RunningServer, ca_id: int, pems: list[bytes], clients: int
) -> tuple[wrk.Load, float]:
    """One run; the load and the server's CPU milliseconds per certificate."""
    bodies = [json.dumps({"ca_id": ca_id, "csr": pem.decode()}) for pem in pems]
    before = cpu_seconds(server)
    load = wrk.post(
        f"{server.https}/api/v2/certificates",
        bodies,
        clients=clients,
        headers={"X-API-Key": server.api_key},
        expect=201,
    )
    return load, (cpu_seconds(server) - before) / load.requests * 1000


def run(report: Report) -> None:
    """All rounds, UCM and the peer alternating."""
    pems = csrs.make(200)
    disk = commits.durable_commit_rate()
    report.add("bare SQLite, durable one-row commits", disk, unit="commits/s")
    peer_bodies = [json.dumps({"certificate_request": pem.decode()}) for pem in pems]
    with running() as server, cfssl() as peer:
        ca_id = server.create_root()
        measure(server, ca_id, pems, 1)
        for clients in CLIENTS:
            load, cpu = measure(server, ca_id, pems, clients)
            there = wrk.post(peer, peer_bodies, clients=clients)
            at = f"{clients} client{'s' if clients > 1 else ''}"
            report.add(f"issuance, {at}", load.rate, unit="certificates/s")
            report.add(
                f"  p50 / p99 {load.p50:.1f} / {load.p99:.1f} ms; cfssl",
                there.rate,
                unit="certificates/s",
            )
            report.add(f"  server CPU, {at}", cpu, unit="ms/certificate", at_most=CPU_MILLISECONDS)
            report.add(f"  of cfssl's rate, {at}", load.rate / there.rate, unit="x", at_least=0.25)
            if clients >= 8:
                report.add(
                    f"  of the bare commit rate, {at}", load.rate / disk, unit="x", at_least=1.0
                )
        stored = server.call("GET", "/api/v2/certificates/stats")["data"]["total"]
        report.add("  certificates stored at the end", stored, unit="rows")
