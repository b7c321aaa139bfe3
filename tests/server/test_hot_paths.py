"""Answers that are given before the application is entered."""

from __future__ import annotations

import pytest


@pytest.mark.parametrize("plain", [True, False])
def test_a_known_question_is_answered_on_either_port(served, plain):
    response, body = served.request("GET", "/ocsp/hot", plain=plain)
    assert (response.status, body, response.getheader("x-hot")) == (200, b"hot ", "GET")


def test_the_answer_may_take_its_time_on_the_loop(served):
    assert served.request("GET", "/ocsp/hot/later")[1] == b"hot "


def test_head_is_answered_without_body(served):
    response, body = served.request("HEAD", "/ocsp/hot")
    assert (body, response.getheader("content-length")) == (b"", "4")


def test_a_short_body_is_part_of_the_question(served):
    assert served.request("POST", "/ocsp/hot", b"status of 5?")[1] == b"hot status of 5?"


def test_an_unknown_question_goes_to_the_application_with_its_body(served):
    assert served.request("GET", "/ocsp/hot/unknown")[1] == b"hot/unknown"
    assert served.request("POST", "/ocsp/hot", b"unknown")[1] == b"unknown"


def test_a_long_or_chunked_body_goes_to_the_application(served):
    assert served.request("POST", "/ocsp/hot", b"x" * 101)[1] == b"x" * 101
    client = served.client()
    client.request("POST", "/ocsp/hot", iter([b"abc"]), encode_chunked=True)
    assert client.getresponse().read() == b"abc"
    client.close()


@pytest.mark.parametrize("path", ["/health/live", "/api/health/live", "/api/v2/health/live"])
def test_liveness_has_its_three_paths(served, path):
    assert served.request("GET", path)[0].status == 200
    assert served.request("GET", path + "/more")[0].status == 404
    assert served.request("POST", path, b"x")[0].status == 404
