"""What a certificate is found by."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ucm.store.search_terms import (
    MAX_TERM_LENGTH,
    MAX_TERMS,
    MAX_WORDS,
    certificate_terms,
    query_terms,
    serial_beginning,
)


@pytest.mark.parametrize(
    ("names", "texts", "expected"),
    [
        (["www.example.com"], [], {"www.example.com", "example.com"}),
        (["*.Example.COM"], [], {"example.com"}),
        (
            ["anna@mail.example.com"],
            [],
            {"anna@mail.example.com", "mail.example.com", "example.com"},
        ),
        (["192.0.2.1"], [], {"192.0.2.1"}),
        (["2001:db8::1"], [], {"2001:db8::1"}),
        (["https://x.example.com/a"], [], {"https://x.example.com/a"}),
        ([], ["Printer (2nd floor)"], {"printer", "2nd", "floor"}),
        ([], ["Straße ÅNGSTRÖM"], {"strasse", "ångström"}),
        (["a.example.com"], ["a.example.com"], {"a.example.com", "example.com"}),
        (["localhost"], ["", "  "], {"localhost"}),
    ],
)
def test_terms(names, texts, expected):
    assert set(certificate_terms(names=names, texts=texts)) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("www.example.com", ("www.example.com",)),
        ("  CN=www.example.com, O=Example ", ("www.example.com", "example")),
        ("*.example.com", ("example.com",)),
        ("a A a", ("a",)),
        ("", ()),
        (" ,*. ", ()),
    ],
)
def test_query_terms(text, expected):
    assert query_terms(text) == expected


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("00ab:cd:ef", "abcdef"),
        ("0xabcd", "abcd"),
        ("abc", None),
        ("www", None),
        ("0" * 60 + "abcd", "abcd"),
        ("f" * 41, None),
    ],
)
def test_serial_beginnings(word, expected):
    assert serial_beginning(word) == expected


@given(st.lists(st.text(), max_size=300), st.lists(st.text(), max_size=5))
def test_terms_are_bounded_whatever_comes(names, texts):
    terms = certificate_terms(names=names, texts=texts)
    assert len(terms) == len(set(terms)) <= MAX_TERMS
    assert all(0 < len(term) <= MAX_TERM_LENGTH for term in terms)


@given(st.text())
def test_queries_are_bounded_whatever_comes(text):
    words = query_terms(text)
    assert len(words) == len(set(words)) <= MAX_WORDS
    assert all(0 < len(word) <= MAX_TERM_LENGTH for word in words)
