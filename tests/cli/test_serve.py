"""``ucm serve``: what its processes share, what each has for itself, and how a start is refused."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest
import requests

from ucm.cli.serve import started
from ucm.cli.setup import prepare
from ucm.runtime.boot import BootError, BootSettings
from ucm.runtime.container import build_container
from ucm.testing.app import boot_settings
from ucm.testing.server import RunningServer, running_server
from ucm.web.app import create_app

PLUGIN = """
import os
from collections.abc import Iterable
from pathlib import Path
from flask import Blueprint
from ucm.api import PluginContext, PluginManifest, Routes, hookimpl
from ucm.api.web import public

class Plugin:
    manifest = PluginManifest(
        name="{name}", title="T", summary="S.", api=">=1.0,<2", docs="README.md",
        url_prefixes=("/{name}",), table_prefix="{name}_",
    )

    def _log(self, what):
        with open(os.environ["CALLS"], "a") as file:
            file.write(f"{name} {{what}} {{os.getpid()}}\\n")

    @hookimpl
    def ucm_routes(self, ctx: PluginContext) -> Iterable[Routes] | None:
        self._log("routes")
        blueprint = Blueprint("{name}", __name__)

        @blueprint.get("/pid")
        @public("it tells nothing")
        def pid():
            return str(os.getpid())

        return [Routes(blueprint=blueprint, prefix="/{name}")]

    @hookimpl
    def ucm_start(self, ctx: PluginContext) -> None:
        self._log("start")
        {start}

plugin = Plugin()
"""


@pytest.fixture
def plugin_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Write plugin distributions that new processes find; the environment that shows them."""
    folder = tmp_path / "plugins"
    folder.mkdir()

    def install(**starts: str) -> dict[str, str]:
        for name, start in starts.items():
            (folder / f"ucm_{name}.py").write_text(PLUGIN.format(name=name, start=start))
            info = folder / f"ucm_{name}-1.0.dist-info"
            info.mkdir()
            (info / "METADATA").write_text(
                f"Metadata-Version: 2.1\nName: ucm-{name}\nVersion: 1.0\n"
            )
            (info / "entry_points.txt").write_text(f"[ucm.plugins]\n{name} = ucm_{name}:plugin\n")
        return {"PYTHONPATH": str(folder), "CALLS": str(tmp_path / "calls")}

    return install


def calls(tmp_path: Path, what: str) -> list[int]:
    lines = [line.split() for line in (tmp_path / "calls").read_text().splitlines()]
    return [int(pid) for _, done, pid in lines if done == what]


def database_files(process: psutil.Process) -> set[str]:
    links = Path(f"/proc/{process.pid}/fd").iterdir()
    targets = [link.readlink() for link in links if link.is_symlink()]
    return {target.name for target in targets if "ucm.db" in target.name}


def eventually(check, *, seconds: float = 20.0):
    deadline = time.monotonic() + seconds
    while not (found := check()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)
    return found


def test_everything_is_built_once_and_nothing_is_open_at_the_fork(tmp_path, plugin_disk):
    environment = plugin_disk(one="pass") | {"UCM_PLUGINS": "default,one", "UCM_WORKERS": "2"}
    with running_server(tmp_path, environment=environment) as server:
        assert server.process is not None
        parent = psutil.Process(server.process.pid)
        eventually(lambda: len(parent.children()) == 3)
        eventually(lambda: all(database_files(child) for child in parent.children()))
        assert database_files(parent) == set()
        eventually(lambda: len(set(calls(tmp_path, "start"))) == 3)
        assert set(calls(tmp_path, "start")) == {child.pid for child in parent.children()}
        assert calls(tmp_path, "routes") == [parent.pid]

        answered = server.call("GET", "/one/pid")
        assert int(answered) in {child.pid for child in parent.children()}
        before = {child.pid for child in parent.children()}
        server.process.send_signal(signal.SIGHUP)
        eventually(lambda: not before & {child.pid for child in parent.children()})
        eventually(lambda: len(set(calls(tmp_path, "start"))) == 6)
        assert calls(tmp_path, "routes") == [parent.pid]
        assert server.create_root()


def test_a_plugin_that_does_not_start_has_no_routes_and_the_others_serve(tmp_path, plugin_disk):
    environment = plugin_disk(good="pass", bad="raise RuntimeError('no token')")
    environment |= {"UCM_PLUGINS": "default,good,bad"}
    with running_server(tmp_path, environment=environment) as server:
        assert server.request("GET", "/good/pid").ok
        assert server.request("GET", "/bad/pid").status_code == 404
        states = {p["name"]: p for p in server.call("GET", "/api/v2/plugins")["data"]}
        assert (states["bad"]["state"], states["good"]["state"]) == ("failed", "running")
        assert "no token" in states["bad"]["reason"]


def test_a_required_plugin_that_does_not_start_ends_the_server_with_a_sentence(
    tmp_path, plugin_disk
):
    environment = plugin_disk(vital="raise RuntimeError('no token')")
    environment |= {"UCM_PLUGINS": "default,vital!"}
    with pytest.raises(RuntimeError, match="the server ended at start") as caught:
        run(tmp_path, environment)
    assert "error: UCM_PLUGINS requires 'vital' (with '!')" in str(caught.value)
    assert "hint: Repair it" in str(caught.value)
    assert "UCM is ready" not in str(caught.value)


def run(directory: Path, environment: dict[str, str]) -> None:
    with running_server(directory, environment=environment, signed_in=False):
        pass


def test_port_0_turns_plain_http_off(tmp_path):
    with running_server(tmp_path, environment={"UCM_HTTP_PORT": "0"}) as server:
        assert server.process is not None
        parent = psutil.Process(server.process.pid)
        listening = {
            c.laddr.port
            for process in [parent, *parent.children()]
            for c in process.net_connections(kind="tcp")
            if c.status == psutil.CONN_LISTEN
        }
        assert listening == {int(server.https.rpartition(":")[2])}
        assert "plain http" not in server.log
        with pytest.raises(requests.ConnectionError):
            requests.get(f"{server.http}/api/health/live", timeout=5)


def test_without_a_plain_port_its_url_is_that_of_the_https_port(tmp_path):
    assert BootSettings(data_dir=tmp_path, http_port=0).public_http_base() == (
        "https://127.0.0.1:8443"
    )
    given = BootSettings(data_dir=tmp_path, http_port=0, public_http_url="http://crl.example.org")
    assert given.public_http_base() == "http://crl.example.org"


def test_a_prepared_container_serves_in_each_child(tmp_path):
    """Two children of one process, each with the database for itself."""
    container = prepare(boot_settings(tmp_path / "data"))
    app = create_app(container)
    codes = []
    for _ in range(2):
        child = os.fork()
        if child == 0:
            status = 1
            try:
                serving = started(container, app=app)
                answer = serving.test_client().get("/api/health/ready")
                status = 0 if answer.status_code == 200 and serving is app else 2
                container.close()
            finally:
                os._exit(status)
        codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    assert codes == [0, 0]
    container.close()


def test_a_started_container_cannot_be_detached(tmp_path):
    container = prepare(boot_settings(tmp_path / "data"))
    container.start(role="web")
    with pytest.raises(RuntimeError, match="started"):
        container.detach()
    container.close()


def test_the_first_start_leaves_no_alembic_in_the_server(tmp_path):
    program = (
        "import sys, pathlib\n"
        "from ucm.cli.setup import prepare\n"
        "from ucm.testing.app import boot_settings\n"
        "container = prepare(boot_settings(pathlib.Path(sys.argv[1])))\n"
        "assert 'alembic' not in sys.modules\n"
        "container.start(role='web')\n"
        "container.close()\n"
    )
    run = [sys.executable, "-c", program, str(tmp_path / "data")]
    done = subprocess.run(run, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_memory_of_a_password_hash_goes_back(tmp_path):
    """The worker that signed somebody in is not larger for it than the others: 19 MiB a hash."""

    def largest(server: RunningServer) -> float:
        assert server.process is not None
        children = psutil.Process(server.process.pid).children()
        return max(child.memory_full_info().uss for child in children) / 1e6

    with running_server(tmp_path, environment={"UCM_WORKERS": "1"}) as server:
        before = largest(server)
        for _ in range(8):
            server.sign_in()
        assert largest(server) < before + 10


def test_a_required_plugin_that_failed_early_stops_the_server_before_the_fork(tmp_path):
    class Broken:
        """No manifest."""

    container = build_container(
        boot_settings(tmp_path / "data", plugins="default,broken!"), plugins={"broken": Broken()}
    )
    with pytest.raises(BootError, match=r"requires 'broken' \(with '!'\).* at step load"):
        container.detach()
    container.close()


def test_threads_that_would_be_lost_at_the_fork_are_named(tmp_path, caplog):
    container = build_container(boot_settings(tmp_path / "data"))
    done = threading.Event()
    thread = threading.Thread(target=done.wait, name="poller-of-a-plugin")
    thread.start()
    container.detach()
    done.set()
    thread.join()
    assert "poller-of-a-plugin" in caplog.text
    container.close()
