"""Words under which a certificate is found: look-ups are prefix ranges on one b-tree."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

MAX_TERMS = 256
"""Terms kept per certificate; one with more names is still found by these."""

MAX_TERM_LENGTH = 128
_WORD = re.compile(r"[^\W_]+(?:[-_.@:+/][^\W_]+)*", re.UNICODE)
_PART = re.compile(r"[^\W_]+", re.UNICODE)


def normalise(text: str) -> str:
    """Text as terms are compared: folded case, without what surrounds it."""
    return text.strip().strip("\"'*.,;()").casefold()[:MAX_TERM_LENGTH]


def query_terms(text: str) -> tuple[str, ...]:
    """The prefixes a search text asks for; a certificate must have a term for each of them."""
    words = (normalise(word) for word in text.split())
    return tuple(dict.fromkeys(word for word in words if word))[:16]


def certificate_terms(
    *, serial: str, names: Iterable[str], texts: Iterable[str]
) -> tuple[str, ...]:
    """Terms of a certificate: its serial, each name with its domain suffixes, each word of a text.

    ``www.example.com`` gives itself, ``example.com`` and ``com``, so that a search for any of them
    or for the beginning of one finds it. ``user@example.com`` gives the domain's suffixes, too.
    """
    found: dict[str, None] = {normalise(serial): None}
    for term in _all_terms(names, texts):
        if term:
            found[term] = None
            if len(found) >= MAX_TERMS:
                break
    return tuple(found)


def _all_terms(names: Iterable[str], texts: Iterable[str]) -> Iterator[str]:
    for name in names:
        yield from _name_terms(normalise(name))
    for text in texts:
        for word in _WORD.findall(text):
            yield from _name_terms(normalise(word))
            if not word.isalnum():
                yield from (normalise(part) for part in _PART.findall(word))


def _name_terms(name: str) -> Iterator[str]:
    yield name
    _, at, domain = name.rpartition("@")
    if at:
        yield domain
        name = domain
    if ":" in name or "/" in name:
        return  # IPv6 addresses and URLs have no domain suffixes
    while "." in name and not name.replace(".", "").isdigit():
        _, _, name = name.partition(".")
        yield name
