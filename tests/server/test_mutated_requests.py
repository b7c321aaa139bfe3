"""Requests broken at random never bring down a connection's neighbour, nor an error of our own."""

from __future__ import annotations

import random
import re
import socket

import pytest

from tests.server.conftest import read_all

SEEDS = (
    b"GET /ocsp/abc?d=e HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\n\r\n",
    b"POST /ocsp/abc HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n\r\nhello world",
    b"POST /ocsp/abc HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"5\r\nhello\r\n6;x=y\r\n world\r\n0\r\nX: y\r\n\r\n",
    b"GET http://a/ocsp/%41%2f HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\n"
    b"Upgrade: websocket\r\nExpect: 100-continue\r\n\r\n",
    b"HEAD /health HTTP/1.0\r\nX-Forwarded-For: 1.2.3.4\r\nCookie: a=b\r\n\r\n"
    b"GET /ocsp/hot HTTP/1.1\r\nHost: a\r\n\r\n",
)
TOKENS = (
    b"\r\n", b"\n", b"\r", b"\x00", b" ", b"\t", b":", b"%", b"%00", b"..", b"/", b"0", b"\xff",
    b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n", b"Host: b\r\n", b"HTTP/1.1",
    b"Connection: close\r\n", b"A" * 9000, b"X: y\r\n" * 120, b"99999999999999999999",
)  # fmt: skip
EXPECTED = {200, 400, 404, 405, 408, 413, 414, 431, 501, 505}


def mutated(dice: random.Random) -> bytes:
    data = bytearray(dice.choice(SEEDS))
    for _ in range(dice.randint(1, 4)):
        at = dice.randrange(len(data) + 1)
        match dice.randrange(4):
            case 0:
                data[at:at] = dice.choice(TOKENS)
            case 1:
                del data[at : at + dice.randint(1, 12)]
            case 2:
                data[at : at + 1] = bytes([dice.randrange(256)])
            case _:
                data[at:at] = data[dice.randrange(len(data) + 1) :][: dice.randint(1, 40)]
    return bytes(data)


@pytest.mark.parametrize("seed", range(8))
def test_every_answer_is_one_that_was_meant(served, seed):
    dice = random.Random(seed)
    for _ in range(60):
        data = mutated(dice)
        cut = dice.randrange(len(data) + 1)
        with served.connect(plain=True) as sock:
            try:
                sock.sendall(data[:cut])
                sock.sendall(data[cut:])
                sock.shutdown(socket.SHUT_WR)
            except OSError:
                pass  # refused while it was being sent
            answer = read_all(sock)
        for status in re.findall(rb"^HTTP/1\.1 (\d{3}) ", answer, re.MULTILINE):
            assert int(status) in EXPECTED | {100}, data
    assert served.request("GET", "/hello")[1] == b"hello\n"
    assert "Traceback" not in served.log
