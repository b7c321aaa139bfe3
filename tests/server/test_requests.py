"""What passes between a well-behaved client and the application."""

from __future__ import annotations

import hashlib
import http.client
import json
import re
import time

import psutil
import pytest


def test_the_ready_line_names_both_ports_that_accept(served):
    assert served.banner.strip() == (
        f"UCM is ready: https://127.0.0.1:{served.https} "
        f"(plain http for protocols: http://127.0.0.1:{served.http})"
    )
    assert served.request("GET", "/hello")[1] == b"hello\n"


def test_answers_carry_a_date_and_do_not_name_the_software(served):
    response, _ = served.request("GET", "/hello")
    assert re.fullmatch(r"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT", response.getheader("date"))
    assert response.getheader("server") is None


def test_one_connection_serves_many_requests(served):
    client = served.client()
    for _ in range(3):
        client.request("GET", "/hello")
        assert client.getresponse().read() == b"hello\n"
        sock = client.sock
        assert sock is not None
    client.close()


def test_pipelined_requests_are_answered_in_order(served):
    ask = b"GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n"
    answers = served.raw(
        ask % b"/sleep/0.2"
        + ask % b"/hello"
        + b"GET /nowhere HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    )
    assert re.findall(rb"HTTP/1\.1 (\d+)", answers) == [b"200", b"200", b"404"]
    assert answers.index(b"slept") < answers.index(b"hello")


def test_http_1_0_gets_a_closed_answer_with_a_length(served):
    answer = served.raw(b"GET /hello HTTP/1.0\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200")
    assert b"connection: close" in answer.lower()
    assert answer.endswith(b"hello\n")


def test_http_1_0_gets_a_streamed_answer_without_chunks(served):
    answer = served.raw(b"GET /stream/2 HTTP/1.0\r\n\r\n")
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"chunked" not in head
    assert b"content-length: 2097152" in head
    assert len(body) == 2 << 20


def test_head_has_the_header_of_get_and_no_body(served):
    get, body = served.request("GET", "/big/1")
    head, nothing = served.request("HEAD", "/big/1")
    assert nothing == b""
    assert head.getheader("content-length") == get.getheader("content-length") == str(len(body))
    answers = served.raw(
        b"HEAD /stream/1 HTTP/1.1\r\nHost: a\r\n\r\n"
        b"HEAD /hello HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    )
    assert answers.count(b"HTTP/1.1 200") == 2
    assert b"0123456789abcdef" not in answers


def test_head_of_a_problem_has_no_body(served):
    answer = served.raw(b"HEAD /hello HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", plain=True)
    assert answer.startswith(b"HTTP/1.1 404")
    assert answer.endswith(b"\r\n\r\n")


def test_no_content_has_no_length(served):
    response, body = served.request("GET", "/nothing")
    assert (response.status, body) == (204, b"")
    assert response.getheader("content-length") is None
    assert response.getheader("transfer-encoding") is None


@pytest.mark.parametrize("size", [0, 1, 99_999, 3_000_000])
def test_bodies_of_every_size_arrive_whole(served, size):
    body = bytes(range(256)) * (size // 256 + 1)
    _, answer = served.request("POST", "/echo", body[:size])
    assert json.loads(answer) == {
        "length": size,
        "sha256": hashlib.sha256(body[:size]).hexdigest(),
    }


def test_chunked_bodies_arrive_whole_and_have_a_length(served):
    client = served.client()
    client.request("POST", "/echo", iter([b"hello ", b"world"]), encode_chunked=True)
    answer = json.loads(client.getresponse().read())
    assert answer["sha256"] == hashlib.sha256(b"hello world").hexdigest()
    client.request("POST", "/environ", iter([b"hello ", b"world"]), encode_chunked=True)
    environ = json.loads(client.getresponse().read())
    assert environ["CONTENT_LENGTH"] == "11"
    assert "HTTP_TRANSFER_ENCODING" not in environ
    client.close()


def test_trailer_fields_do_not_become_header_fields(served):
    answer = served.raw(
        b"POST /environ HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-Real: trailer\r\n\r\n"
    )
    assert b"HTTP/1.1 200" in answer
    assert b"X_REAL" not in answer


def test_expect_100_continue_is_honoured(served):
    with served.connect() as sock:
        sock.sendall(
            b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n"
        )
        assert sock.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        sock.sendall(b"hello")
        assert sock.recv(1000).startswith(b"HTTP/1.1 200")


def test_the_environment_describes_the_request(served):
    _, answer = served.request("GET", "/environ?a=%20b", X_Own="1")
    environ = json.loads(answer)
    assert environ["QUERY_STRING"] == "a=%20b"
    assert environ["HTTP_X_OWN"] == "1"
    assert environ["REMOTE_ADDR"] == "127.0.0.1"
    assert environ["ucm.client"] == ["127.0.0.1", int(environ["REMOTE_PORT"])]
    assert environ["ucm.port"] == environ["wsgi.url_scheme"] == "https"
    assert environ["tls"]["peer"] is None
    assert environ["SERVER_PORT"] == str(served.https)


def test_repeated_fields_are_joined_and_cookies_with_semicolons(served):
    answer = served.raw(
        b"GET /environ HTTP/1.1\r\nHost: a\r\nAccept: x\r\nAccept: y\r\nCookie: a=1\r\n"
        b"Cookie: b=2\r\nConnection: close\r\n\r\n"
    )
    environ = json.loads(answer.partition(b"\r\n\r\n")[2])
    assert environ["HTTP_ACCEPT"] == "x,y"
    assert environ["HTTP_COOKIE"] == "a=1; b=2"


def test_percent_encoded_paths_reach_the_application_decoded(served):
    assert served.request("GET", "/ocsp/a%2Fb%C3%A9")[1] == "a/bé".encode()


def test_the_proxy_header_does_not_become_http_proxy(served):
    _, answer = served.request("GET", "/environ", Proxy="http://evil")
    assert "HTTP_PROXY" not in json.loads(answer)


class TestPlainPort:
    def test_serves_protocol_paths_and_health(self, served):
        assert served.request("GET", "/ocsp/abc", plain=True)[1] == b"abc"
        response, body = served.request("GET", "/api/health/live", plain=True)
        assert (response.status, json.loads(body)) == (200, {"status": "alive"})

    @pytest.mark.parametrize(
        "path", ["/hello", "/ocspx", "/", "/api/v2/certificates", "//ocsp/abc", "/OCSP/abc"]
    )
    def test_everything_else_is_not_found(self, served, path):
        answer = served.raw(
            b"GET %s HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n" % path.encode(), plain=True
        )
        head, _, body = answer.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 404")
        assert b"application/problem+json" in head
        problem = json.loads(body)
        assert problem["type"] == "urn:ucm:error:not-on-plain-http"
        assert problem["success"] is False
        assert problem["error"]

    def test_dot_segments_do_not_lead_out(self, served):
        for path in (
            b"/ocsp/../hello",
            b"/ocsp/%2e%2e/hello",
            b"/ocsp/.%2e/hello",
            b"/ocsp%2f..%2fhello",
        ):
            answer = served.raw(b"GET %s HTTP/1.1\r\nHost: a\r\n\r\n" % path, plain=True)
            assert answer.startswith(b"HTTP/1.1 400"), path

    def test_a_refused_body_is_not_taken_for_the_next_request(self, served):
        answer = served.raw(
            b"POST /hello HTTP/1.1\r\nHost: a\r\nContent-Length: 60\r\n\r\n"
            b"GET /ocsp/inner HTTP/1.1\r\nHost: a\r\n\r\n",
            plain=True,
        )
        assert answer.startswith(b"HTTP/1.1 404")
        assert answer.count(b"HTTP/1.1") == 1


def test_liveness_is_answered_while_every_application_thread_is_busy(start):
    server = start(workers=1, threads=1)
    busy = server.client()
    busy.request("GET", "/sleep/1.5")
    time.sleep(0.2)
    begin = time.monotonic()
    assert server.request("GET", "/api/health/live")[0].status == 200
    assert time.monotonic() - begin < 1.0
    assert busy.getresponse().read() == b"slept\n"
    busy.close()


def test_a_full_queue_answers_503_and_the_queued_are_served(start):
    server = start(workers=1, threads=1, limits={"queue": 2})
    clients = []
    for _ in range(6):
        client = server.client()
        client.request("GET", "/sleep/0.5")
        clients.append(client)
        time.sleep(0.02)
    answers = [client.getresponse() for client in clients]
    statuses = sorted(answer.status for answer in answers)
    assert statuses == [200, 200, 200, 503, 503, 503]
    refused = next(answer for answer in answers if answer.status == 503)
    assert refused.getheader("retry-after") == "1"
    assert json.loads(refused.read())["type"] == "urn:ucm:error:busy"
    for client in clients:
        client.close()


def test_an_exception_in_the_application_is_a_problem_and_is_logged(served):
    response, body = served.request("GET", "/fails")
    assert response.status == 500
    assert json.loads(body)["type"] == "urn:ucm:error:internal"
    assert b"the test asked" not in body
    assert "ValueError: the test asked for it" in served.log


def test_an_answer_that_breaks_off_is_cut_not_completed(served):
    client = served.client()
    client.request("GET", "/breaks")
    with pytest.raises((http.client.IncompleteRead, ConnectionResetError, OSError)):
        client.getresponse().read()
    client.close()


def test_parts_reach_the_client_while_the_application_goes_on(served):
    client = served.client()
    begin = time.monotonic()
    client.request("GET", "/ticks")
    response = client.getresponse()
    assert response.readline() == b"first\n"
    assert time.monotonic() - begin < 0.4
    assert response.read() == b"second\n"
    client.close()


def test_a_large_stream_to_a_slow_reader_keeps_memory_flat_and_threads_free(start):
    server = start(workers=1, threads=1)
    worker = psutil.Process(next(iter(server.worker_pids())))
    server.request("GET", "/stream/4")
    before = worker.memory_info().rss
    with server.connect() as sock:
        sock.sendall(b"GET /stream/300 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        time.sleep(0.5)
        # The one thread is not held by the client that does not read.
        assert server.request("GET", "/hello")[1] == b"hello\n"
        received, peak = 0, 0
        while part := sock.recv(1 << 20):
            received += len(part)
            peak = max(peak, worker.memory_info().rss)
    assert received > 300 << 20
    assert peak - before < 24 << 20


def test_a_client_that_leaves_ends_the_stream(start):
    server = start(workers=1)
    with server.connect(plain=False) as sock:
        sock.sendall(b"GET /stream/2000 HTTP/1.1\r\nHost: a\r\n\r\n")
        sock.recv(1000)
    end = time.monotonic() + 10
    while not (server.data_dir / "stream-closed").exists():
        assert time.monotonic() < end
        time.sleep(0.05)
