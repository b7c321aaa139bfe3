"""Slow, oversized and smuggling clients: each is refused, and none costs another its answer."""

from __future__ import annotations

import json
import re
import socket
import time
from typing import ClassVar

import pytest

from tests.server.conftest import Served, eventually, read_all

GET = b"GET /hello HTTP/1.1\r\nHost: a\r\n"
POST = b"POST /echo HTTP/1.1\r\nHost: a\r\n"
INNER = b"GET /pid HTTP/1.1\r\nHost: a\r\n\r\n"


def status_and_problem(answer: bytes) -> tuple[int, dict]:
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"application/problem+json" in head.lower(), answer[:200]
    assert b"connection: close" in head.lower()
    return int(head.split()[1]), json.loads(body)


SMUGGLING = {
    "content-length and chunked": POST
    + b"Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    + INNER,
    "chunked and content-length": POST
    + b"Transfer-Encoding: chunked\r\nContent-Length: 6\r\n\r\n0\r\n\r\n"
    + INNER,
    "two content-lengths": POST + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello" + INNER,
    "the same content-length twice": POST
    + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello"
    + INNER,
    "a list of content-lengths": POST + b"Content-Length: 5, 5\r\n\r\nhello" + INNER,
    "a signed content-length": POST + b"Content-Length: +5\r\n\r\nhello" + INNER,
    "a negative content-length": POST + b"Content-Length: -5\r\n\r\nhello" + INNER,
    "a hexadecimal content-length": POST + b"Content-Length: 0x5\r\n\r\nhello" + INNER,
    "a huge content-length": POST + b"Content-Length: 99999999999999999999\r\n\r\nhello" + INNER,
    "space before the colon": POST + b"Content-Length : 5\r\n\r\nhello" + INNER,
    "a folded field": POST + b"Content-Length: 5\r\nX: a\r\n b\r\n\r\nhello" + INNER,
    "bare LF lines": b"GET /hello HTTP/1.1\nHost: a\n\n" + INNER,
    "bare LF in a field": b"GET /hello HTTP/1.1\r\nHost: a\nX: b\r\n\r\n" + INNER,
    "bare CR in a field": b"GET /hello HTTP/1.1\r\nHost: a\rX: b\r\n\r\n" + INNER,
    "NUL in a field": GET + b"X: a\x00b\r\n\r\n" + INNER,
    "an unknown transfer coding": POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n" + INNER,
    "identity": POST + b"Transfer-Encoding: identity\r\n\r\n" + INNER,
    "chunked, then identity": POST
    + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n"
    + INNER,
    "gzip, chunked": POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n" + INNER,
    "a vertical tab before chunked": POST
    + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n"
    + INNER,
    "chunked in HTTP/1.0": b"POST /echo HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"0\r\n\r\n" + INNER,
    "chunk lines with bare LF": POST + b"Transfer-Encoding: chunked\r\n\r\n5\nhello\n0\n\n" + INNER,
    "chunk data with bare LF": POST
    + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\n0\r\n\r\n"
    + INNER,
    "chunk size 0x5": POST + b"Transfer-Encoding: chunked\r\n\r\n0x5\r\nhello\r\n0\r\n\r\n" + INNER,
    "a chunk size that overflows": POST
    + b"Transfer-Encoding: chunked\r\n\r\n10000000000000005\r\nhello\r\n0\r\n\r\n"
    + INNER,
    "no host": b"GET /hello HTTP/1.1\r\n\r\n" + INNER,
    "two hosts": GET + b"Host: b\r\n\r\n" + INNER,
    "a host with a space": b"GET /hello HTTP/1.1\r\nHost: a b\r\n\r\n" + INNER,
    "a target that contradicts the host": b"GET http://b/hello HTTP/1.1\r\nHost: a\r\n\r\n" + INNER,
    "CONNECT": b"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n" + INNER,
    "the asterisk target": b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n" + INNER,
    "a fragment": b"GET /hello#x HTTP/1.1\r\nHost: a\r\n\r\n" + INNER,
    "NUL in the path": b"GET /hello%00 HTTP/1.1\r\nHost: a\r\n\r\n" + INNER,
    "bytes above ASCII in the path": b"GET /h\xe9 HTTP/1.1\r\nHost: a\r\n\r\n" + INNER,
    "HTTP/0.9": b"GET /hello\r\n\r\n" + INNER,
    "HTTP/2.0": b"GET /hello HTTP/2.0\r\nHost: a\r\n\r\n" + INNER,
    "HTTP/2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + INNER,
    "an unknown method": b"SMUGGLE /hello HTTP/1.1\r\nHost: a\r\n\r\n" + INNER,
    "not HTTP at all": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 20,
}


@pytest.mark.parametrize("form", SMUGGLING)
def test_bad_framing_is_refused_and_nothing_after_it_is_read(served, form):
    answer = served.raw(SMUGGLING[form], plain=True)
    status, problem = status_and_problem(answer)
    assert status in (400, 501, 505)
    assert len(re.findall(rb"HTTP/1\.1 \d{3}", answer)) == 1
    assert problem["status"] == status
    assert problem["type"].startswith("urn:ucm:error:")


def test_a_refusal_reaches_a_tls_client_whole(served):
    answer = served.raw(SMUGGLING["content-length and chunked"])
    assert status_and_problem(answer)[0] == 400


def test_a_fault_in_the_body_is_answered_after_its_first_part_was_taken(served):
    for plain in (True, False):
        with served.connect(plain=plain) as sock:
            sock.sendall(POST.replace(b"/echo", b"/ocsp/a") + b"Transfer-Encoding: chunked\r\n\r\n")
            sock.sendall(b"5\r\nhello\r\n")
            time.sleep(0.2)
            sock.sendall(b"zz\r\n" + b"x" * 100_000)
            assert status_and_problem(read_all(sock))[0] == 400


def test_a_fault_in_a_later_message_does_not_spoil_the_earlier_answer(served):
    answer = served.raw(
        b"GET /sleep/0.3 HTTP/1.1\r\nHost: a\r\n\r\nGET /hello HTTP/1.1\nHost: a\n\n" + INNER
    )
    assert answer.startswith(b"HTTP/1.1 200")
    assert answer.endswith(b"slept\n")
    assert len(re.findall(rb"HTTP/1\.1 \d{3}", answer)) == 1


def test_an_absolute_target_that_agrees_with_the_host_is_served(served):
    answer = served.raw(b"GET https://a/hello HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    assert answer.endswith(b"hello\n")


def test_an_upgrade_is_not_followed(served):
    answer = served.raw(GET + b"Connection: upgrade\r\nUpgrade: h2c\r\n\r\n" + INNER)
    assert answer.startswith(b"HTTP/1.1 200")
    assert len(re.findall(rb"HTTP/1\.1 \d{3}", answer)) == 1


def test_too_many_pipelined_requests_end_the_connection(served):
    answer = served.raw(b"GET /sleep/0.3 HTTP/1.1\r\nHost: a\r\n\r\n" + INNER * 100)
    assert answer.startswith(b"HTTP/1.1 200")
    assert answer.count(b"HTTP/1.1") < 30


class TestSize:
    def test_one_huge_field_is_refused_while_it_arrives(self, served):
        begin = time.monotonic()
        status, problem = status_and_problem(served.raw(GET + b"X: " + b"x" * 60_000))
        assert (status, problem["type"]) == (431, "urn:ucm:error:header-too-large")
        assert time.monotonic() - begin < 1.4  # not by the deadline of the header

    def test_too_many_fields_are_refused(self, served):
        fields = b"".join(b"X-%d: y\r\n" % number for number in range(200))
        assert status_and_problem(served.raw(GET + fields + b"\r\n"))[0] == 431

    def test_ninety_fields_are_served(self, served):
        fields = b"".join(b"X-%d: y\r\n" % number for number in range(90))
        answer = served.raw(GET + fields + b"Connection: close\r\n\r\n")
        assert answer.endswith(b"hello\n")

    def test_a_long_target_is_refused(self, served):
        answer = served.raw(b"GET /%s HTTP/1.1\r\nHost: a\r\n\r\n" % (b"a" * 9000))
        assert status_and_problem(answer)[0] == 414

    def test_a_declared_large_body_is_refused_before_it_is_sent(self, served):
        begin = time.monotonic()
        with served.connect() as sock:
            sock.sendall(POST + b"Content-Length: 4000001\r\nExpect: 100-continue\r\n\r\n")
            answer = read_all(sock)
        assert time.monotonic() - begin < 3
        status, problem = status_and_problem(answer)
        assert (status, problem["type"]) == (413, "urn:ucm:error:body-too-large")
        assert "4000000 bytes" in problem["detail"]

    def test_the_refusal_survives_a_client_that_sends_all_the_same(self, served):
        client = served.client()
        client.putrequest("POST", "/echo")
        client.putheader("Content-Length", "4500000")
        client.endheaders()
        try:
            client.send(b"x" * 4_500_000)
        except OSError:
            pytest.skip("the connection was reset before the answer could be read")
        assert client.getresponse().status == 413
        client.close()

    def test_a_chunked_large_body_is_refused_at_the_limit(self, served):
        with served.connect() as sock:
            sock.sendall(POST + b"Transfer-Encoding: chunked\r\n\r\n")
            try:
                for _ in range(500):
                    sock.sendall(b"2710\r\n" + b"x" * 10_000 + b"\r\n")
            except OSError:
                return
            assert status_and_problem(read_all(sock))[0] == 413


class TestSlowness:
    def test_a_header_that_dribbles_is_refused_in_time(self, served):
        begin = time.monotonic()
        with served.connect() as sock:
            sock.sendall(b"GET /hello HTTP/1.1\r\n")
            sock.settimeout(0.2)
            answer = dribble(sock, b"X: y\r\n")
        assert time.monotonic() - begin < 4
        status, problem = status_and_problem(answer)
        assert (status, problem["type"]) == (408, "urn:ucm:error:request-timeout")

    def test_a_client_that_says_nothing_is_closed(self, served):
        for plain in (True, False):
            with served.connect(plain=plain) as sock:
                begin = time.monotonic()
                read_all(sock)
                assert time.monotonic() - begin < 4

    def test_line_ends_between_requests_do_not_hold_a_connection(self, served):
        with served.connect() as sock:
            sock.sendall(GET + b"\r\n")
            assert sock.recv(1000).startswith(b"HTTP/1.1 200")
            begin = time.monotonic()
            sock.settimeout(0.2)
            dribble(sock, b"\r\n")
            assert time.monotonic() - begin < 5

    def test_an_idle_connection_is_closed(self, served):
        with served.connect() as sock:
            sock.sendall(GET + b"\r\n")
            begin = time.monotonic()
            assert read_all(sock).endswith(b"hello\n")
            assert 1.5 < time.monotonic() - begin < 4

    def test_a_body_below_the_minimum_rate_is_refused(self, served):
        begin = time.monotonic()
        with served.connect() as sock:
            sock.sendall(POST + b"Content-Length: 100000\r\n\r\n")
            sock.settimeout(0.1)
            answer = dribble(sock, b"x" * 100)
        assert 1.0 < time.monotonic() - begin < 5
        assert status_and_problem(answer)[0] == 408

    def test_a_slow_body_above_the_minimum_rate_is_served(self, served):
        with served.connect() as sock:
            sock.sendall(POST + b"Content-Length: 60000\r\nConnection: close\r\n\r\n")
            for _ in range(12):
                sock.sendall(b"x" * 5000)
                time.sleep(0.2)
            assert b"HTTP/1.1 200" in read_all(sock)

    def test_a_tls_handshake_that_stalls_is_cut(self, start):
        server = start(limits={"handshake_time": 1.0})
        with socket.create_connection(("127.0.0.1", server.https), 10) as sock:
            sock.sendall(b"\x16\x03\x01")
            begin = time.monotonic()
            read_all(sock)
            assert time.monotonic() - begin < 5

    def test_a_client_that_does_not_read_is_cut(self, served):
        with socket.socket() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            sock.settimeout(15)
            sock.connect(("127.0.0.1", served.https))
            with served.tls().wrap_socket(sock, server_hostname="localhost") as tls:
                tls.sendall(b"GET /big/20 HTTP/1.1\r\nHost: a\r\n\r\n")
                time.sleep(6)
                received = len(read_all(tls))
        assert received < 20 << 20

    @pytest.fixture(scope="class")
    @staticmethod
    def small(tmp_path_factory):
        server = Served(tmp_path_factory.mktemp("small"), workers=1, threads=2)
        yield server
        server.end()

    @pytest.mark.parametrize("what", ["header", "body", "handshake", "silence"])
    def test_64_dribbling_connections_do_not_starve_a_good_client(self, small, what):
        server = small
        dribblers = []
        for _ in range(64):
            if what == "handshake":
                sock = socket.create_connection(("127.0.0.1", server.https), 10)
                sock.sendall(b"\x16\x03\x01\x02\x00")
            else:
                sock = server.connect()
                if what != "silence":
                    sock.sendall(POST + b"Content-Length: 100000\r\n")
                if what == "body":
                    sock.sendall(b"\r\n")
            dribblers.append(sock)
        worst = 0.0
        for _ in range(20):
            if what in ("header", "body"):
                for sock in dribblers:
                    sock.sendall(b"X: y\r\n")
            begin = time.monotonic()
            assert server.request("GET", "/hello")[1] == b"hello\n"
            worst = max(worst, time.monotonic() - begin)
        assert worst < 1.0
        for sock in dribblers:
            sock.close()


class TestHeaders:
    def test_fields_with_underscores_are_dropped(self, served):
        answer = served.raw(
            GET.replace(b"/hello", b"/environ")
            + b"X_Forwarded_For: 1.2.3.4\r\nX_Own: evil\r\nX-Own: good\r\nConnection: close\r\n\r\n"
        )
        environ = json.loads(answer.partition(b"\r\n\r\n")[2])
        assert environ["HTTP_X_OWN"] == "good"
        assert "HTTP_X_FORWARDED_FOR" not in environ

    FORWARDED: ClassVar = {
        "X-Forwarded-For": "9.9.9.9",
        "X-Forwarded-Proto": "https",
        "X-Real-IP": "9.9.9.9",
        "Forwarded": "for=9.9.9.9",
        "X-SSL-Client-Verify": "SUCCESS",
        "X-SSL-Client-Cert": "-----BEGIN",
        "X-SSL-Client-S-DN": "CN=admin",
    }

    def test_forwarding_headers_of_strangers_are_dropped_and_named(self, served):
        _, answer = served.request("GET", "/environ", **self.FORWARDED)
        environ = json.loads(answer)
        assert not [key for key in environ if key.startswith(("HTTP_X_", "HTTP_FORWARDED"))]
        assert sorted(environ["ucm.forwarded_dropped"]) == sorted(
            name.lower() for name in self.FORWARDED
        )

    def test_forwarding_headers_of_trusted_proxies_arrive(self, start):
        server = start(trusted_proxies=["10.0.0.0/8", "127.0.0.0/8"])
        _, answer = server.request("GET", "/environ", **self.FORWARDED)
        environ = json.loads(answer)
        assert environ["HTTP_X_FORWARDED_FOR"] == "9.9.9.9"
        assert environ["HTTP_X_SSL_CLIENT_S_DN"] == "CN=admin"
        assert environ["REMOTE_ADDR"] == "127.0.0.1"
        assert "ucm.forwarded_dropped" not in environ

    def test_other_networks_are_not_trusted(self, start):
        server = start(trusted_proxies=["10.0.0.0/8"])
        _, answer = server.request("GET", "/environ", **self.FORWARDED)
        assert "HTTP_X_FORWARDED_FOR" not in json.loads(answer)


def test_connections_above_the_cap_are_turned_away_and_others_served(start):
    server = start(workers=1, limits={"connections": 20})
    held = [server.connect(plain=True) for _ in range(20)]
    time.sleep(0.2)
    answer = server.raw(b"GET /ocsp/a HTTP/1.1\r\nHost: a\r\n\r\n", plain=True)
    assert status_and_problem(answer)[0] == 503
    held[0].sendall(b"GET /ocsp/a HTTP/1.1\r\nHost: a\r\n\r\n")
    assert held[0].recv(1000).startswith(b"HTTP/1.1 200")
    for sock in held:
        sock.close()
    eventually(lambda: server.request("GET", "/ocsp/a", plain=True)[0].status == 200)


def dribble(sock: socket.socket, part: bytes) -> bytes:
    """Send a part between receive time-outs until the server answers and closes."""
    answer = b""
    end = time.monotonic() + 12
    while time.monotonic() < end:
        try:
            got = sock.recv(65536)
        except TimeoutError:
            try:
                sock.sendall(part)
            except OSError:
                return answer
            continue
        except OSError:
            return answer
        if not got:
            return answer
        answer += got
    raise AssertionError("the server let the client dribble on")
