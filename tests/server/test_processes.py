"""The process tree: what dies is replaced, what is told to stop finishes its work first."""

from __future__ import annotations

import http.client
import signal
import subprocess
import sys
import threading
import time

import psutil
import pytest

from tests.server.conftest import PROGRAM, eventually


def running(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_the_server_is_ready_soon(start):
    assert start().ready_after < 5.0


def test_there_are_the_workers_asked_for_and_one_scheduler(start):
    server = start(workers=3)
    eventually(lambda: len(server.children()) == 4)
    assert len(server.worker_pids()) == 3
    assert len(server.scheduler_pids()) == 1


def test_a_killed_worker_is_replaced(start):
    server = start(workers=2)
    before = eventually(lambda: len(server.worker_pids()) == 2 and server.worker_pids())
    victim = next(iter(before))
    psutil.Process(victim).kill()
    for _ in range(20):
        assert server.request("GET", "/hello")[1] == b"hello\n"
    eventually(lambda: len(server.worker_pids()) == 2 and victim not in server.worker_pids())
    assert server.process.poll() is None


def test_a_killed_scheduler_is_replaced_by_exactly_one(start):
    server = start()
    first = eventually(server.scheduler_pids)[0]
    psutil.Process(first).kill()
    second = eventually(lambda: [pid for pid in server.scheduler_pids() if pid != first])[0]
    assert server.scheduler_pids() == [first, second]
    assert not running(first)
    assert running(second)
    assert server.request("GET", "/hello")[1] == b"hello\n"


def test_a_scheduler_that_fails_is_started_ever_later_and_the_web_goes_on(start, tmp_path):
    (tmp_path / "scheduler-fails").touch()
    server = start()
    begin = time.monotonic()
    eventually(lambda: len(server.scheduler_pids()) >= 2)
    assert time.monotonic() - begin > 1.0
    time.sleep(2.0)
    assert len(server.scheduler_pids()) == 2
    assert server.request("GET", "/hello")[1] == b"hello\n"
    assert "RuntimeError: the test asked for it" in server.log
    (tmp_path / "scheduler-fails").unlink()
    last = eventually(lambda: server.scheduler_pids()[2:])[0]
    eventually(lambda: running(last))


class TestStop:
    def test_requests_in_flight_are_finished_and_new_ones_refused(self, start, tmp_path):
        server = start(workers=1)
        client = server.client()
        client.request("GET", "/sleep/2.0")
        time.sleep(0.3)
        server.signal(signal.SIGTERM)
        time.sleep(0.7)
        with pytest.raises(ConnectionRefusedError):
            server.connect(plain=True)
        response = client.getresponse()
        assert response.read() == b"slept\n"
        assert response.getheader("connection") == "close"
        client.close()
        assert server.wait() == 0
        assert (tmp_path / "closed").exists()
        assert not any(running(pid) for pid in server.scheduler_pids())

    def test_a_body_under_way_is_read_to_its_end(self, start):
        server = start(workers=1)
        client = server.client()
        client.putrequest("POST", "/echo")
        client.putheader("Content-Length", "20")
        client.endheaders()
        client.send(b"x" * 10)
        time.sleep(0.2)
        server.signal(signal.SIGTERM)
        time.sleep(1.5)
        client.send(b"x" * 10)
        assert client.getresponse().status == 200
        client.close()
        assert server.wait() == 0

    def test_an_interrupt_is_a_graceful_stop_too(self, start):
        server = start(workers=1)
        client = server.client()
        client.request("GET", "/sleep/1.0")
        time.sleep(0.2)
        server.signal(signal.SIGINT)
        assert client.getresponse().read() == b"slept\n"
        client.close()
        assert server.wait() == 0

    def test_readiness_is_false_while_the_listeners_stay_open(self, start):
        server = start(workers=1, drain_delay=2.0)
        assert server.request("GET", "/ready")[0].status == 200
        server.signal(signal.SIGTERM)
        eventually(lambda: server.request("GET", "/ready")[0].status == 503, timeout=1.8)
        assert server.wait() == 0

    def test_a_second_signal_does_not_wait(self, start):
        server = start(workers=1)
        client = server.client()
        client.request("GET", "/sleep/25")
        time.sleep(0.2)
        server.signal(signal.SIGTERM)
        time.sleep(0.5)
        begin = time.monotonic()
        server.signal(signal.SIGTERM)
        server.wait()
        assert time.monotonic() - begin < 5.0
        client.close()

    def test_the_wait_for_requests_is_bounded(self, start):
        server = start(workers=1, graceful_timeout=1.0)
        client = server.client()
        client.request("GET", "/sleep/25")
        time.sleep(0.2)
        begin = time.monotonic()
        server.signal(signal.SIGTERM)
        server.wait()
        assert time.monotonic() - begin < 8.0
        client.close()

    def test_idle_connections_do_not_delay_it(self, start):
        server = start(workers=1)
        held = [server.connect(plain=plain) for plain in (True, False)]
        begin = time.monotonic()
        server.signal(signal.SIGTERM)
        assert server.wait() == 0
        assert time.monotonic() - begin < 5.0
        for sock in held:
            sock.close()

    def test_nothing_outlives_a_killed_parent(self, start):
        server = start(workers=2)
        eventually(server.scheduler_pids)
        children = [child.pid for child in server.children()]
        assert len(children) == 3
        server.process.kill()
        server.process.wait()
        eventually(lambda: not any(running(pid) for pid in children))


def test_a_reload_breaks_no_request(start):
    server = start(workers=2)
    before = server.worker_pids() | set(eventually(server.scheduler_pids))
    stop = threading.Event()
    failures: list[str] = []
    served = [0]

    def ask(keep: bool) -> None:
        client: http.client.HTTPConnection | None = None
        while not stop.is_set():
            client = client or server.client()
            try:
                client.request("GET", "/hello")
                response = client.getresponse()
                assert response.read() == b"hello\n"
                served[0] += 1
                closing = response.getheader("connection") == "close"
            except (OSError, http.client.HTTPException, AssertionError) as error:
                failures.append(repr(error))
                closing = True
            if closing or not keep:
                client.close()
                client = None
        if client is not None:
            client.close()

    threads = [threading.Thread(target=ask, args=(keep,)) for keep in (True, True, False, False)]
    for thread in threads:
        thread.start()
    time.sleep(0.5)
    server.signal(signal.SIGHUP)
    eventually(lambda: not before & {child.pid for child in server.children()})
    eventually(lambda: len(server.children()) == 3)
    time.sleep(0.5)
    stop.set()
    for thread in threads:
        thread.join()
    assert failures == []
    assert served[0] > 100
    assert sum(running(pid) for pid in server.scheduler_pids()) == 1


def test_an_application_that_cannot_start_ends_the_server_and_says_why(tmp_path):
    (tmp_path / "application-fails").touch()
    run = subprocess.run(
        [
            sys.executable,
            str(PROGRAM),
            f'{{"data_dir": "{tmp_path}", "https_port": 0, "http_port": 0}}',
        ],
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert run.returncode != 0
    assert "the test asked the application not to start" in run.stderr
    assert "UCM is ready" not in run.stdout


def test_a_replacement_that_cannot_start_does_not_end_a_server_that_was_up(start, tmp_path):
    server = start(workers=2)
    eventually(lambda: len(server.worker_pids()) == 2)
    time.sleep(1.2)
    (tmp_path / "application-fails").touch()
    psutil.Process(next(iter(server.worker_pids()))).kill()
    time.sleep(2.5)
    assert server.process.poll() is None
    assert server.request("GET", "/hello")[1] == b"hello\n"
    (tmp_path / "application-fails").unlink()
    time.sleep(1.5)
    eventually(lambda: len(server.worker_pids()) == 2)


def test_a_port_in_use_is_named_with_what_to_do(start, tmp_path):
    server = start()
    run = subprocess.run(
        [
            sys.executable,
            str(PROGRAM),
            f'{{"data_dir": "{tmp_path}", "https_port": {server.https}, "http_port": 0}}',
        ],
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert run.returncode != 0
    assert f"port {server.https}: another process uses it; stop that process" in run.stderr
    assert "--https-port" in run.stderr


def test_sigusr2_does_not_start_a_second_parent(start):
    server = start()
    eventually(lambda: len(server.children()) == 3)
    server.signal(signal.SIGUSR2)
    eventually(lambda: "SIGUSR2 is not supported" in server.log)
    assert len(server.children()) == 3
