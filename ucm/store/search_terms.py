"""Words under which a certificate is found: look-ups are prefix ranges on one b-tree."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

MAX_TERMS = 128
"""Terms kept per certificate; one with more names is still found by these."""

MAX_TERM_LENGTH = 128
MAX_WORDS = 8
"""Words of a search that count."""

_WORD = re.compile(r"[^\W_]+(?:[-_.@:+/][^\W_]+)*", re.UNICODE)
_ATTRIBUTE = re.compile(r"(?:^|(?<=[\s,]))[A-Za-z]{1,12}\s*=")
_HEX = re.compile(r"[0-9a-f]{4,40}")


def normalise(text: str) -> str:
    """Text as terms are compared: folded case, without what surrounds it."""
    return text.strip().strip("\"'*.,;()").casefold()[:MAX_TERM_LENGTH]


def query_terms(text: str) -> tuple[str, ...]:
    """The beginnings a search text asks for; ``CN=www.example.com`` asks for the value."""
    words = re.split(r"[\s,]+", _ATTRIBUTE.sub(" ", text))
    found = (normalise(word) for word in words)
    return tuple(dict.fromkeys(word for word in found if word))[:MAX_WORDS]


def serial_beginning(term: str) -> str | None:
    """The canonical beginning of a serial number that a word may be (``00:AB:CD..``)."""
    digits = term.removeprefix("0x").replace(":", "").lstrip("0")
    return digits if _HEX.fullmatch(digits) else None


def certificate_terms(*, names: Iterable[str], texts: Iterable[str]) -> tuple[str, ...]:
    """Terms of a certificate: each name with the domains it lies in, each word of a text.

    ``www.example.com`` gives itself and ``example.com``, so that a search for either or for the
    beginning of one finds it; ``user@example.com`` gives the domain, too. The serial number is not
    among them: it has an index of its own.
    """
    found: dict[str, None] = {}
    for term in _all_terms(names, texts):
        if term:
            found[term] = None
            if len(found) >= MAX_TERMS:
                break
    return tuple(found)


def _all_terms(names: Iterable[str], texts: Iterable[str]) -> Iterator[str]:
    seen: set[str] = set()
    for name in names:
        seen.add(name)
        yield from _name_terms(normalise(name))
    for text in texts:
        if text not in seen:  # the common name mostly is one of the names
            seen.add(text)
            for word in _WORD.findall(text):
                yield from _name_terms(normalise(word))


def _name_terms(name: str) -> Iterator[str]:
    yield name
    _, at, domain = name.rpartition("@")
    if at:
        yield domain
        name = domain
    if ":" in name or "/" in name:
        return  # IPv6 addresses and URLs lie in no domain
    while name.count(".") > 1 and not name.replace(".", "").isdigit():
        _, _, name = name.partition(".")
        yield name
