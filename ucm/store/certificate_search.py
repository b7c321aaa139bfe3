"""How the words of a search are applied to the list of certificates.

A word that few certificates have is resolved first; of several, the rarest. Words that very many
have are tested while the order's index is walked instead, because the page then fills at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    and_,
    exists,
    func,
    literal_column,
    or_,
    select,
    union_all,
)

from ucm.store import tables
from ucm.store.search_terms import query_terms, serial_beginning

_t = tables.certificate.c
_terms = tables.certificate_term.c
_END = "\U0010ffff"

COUNT_LIMIT = 5_000
"""A search counts no further than this: nobody turns to a page behind it."""

_FEW = COUNT_LIMIT
_FEW_OF_SEVERAL = 4 * COUNT_LIMIT
"""Up to so many matches a word is resolved; more among several, for together they match fewer."""


@dataclass(frozen=True, slots=True)
class Search:
    """The plan for one search. With ``rarest`` set, that word is resolved first."""

    words: tuple[str, ...]
    rarest: str | None

    @classmethod
    def plan(cls, connection: Connection, text: str) -> Search:
        """Count the words' matches and choose."""
        words = query_terms(text)
        few = _FEW if len(words) == 1 else _FEW_OF_SEVERAL
        counts = {word: _count(connection, _having(word), limit=few + 1) for word in words}
        rarest = min(counts, key=counts.__getitem__, default=None)
        if rarest is not None and counts[rarest] > few:
            rarest = None
        return cls(words, rarest)

    def ids(self) -> Select[Any]:
        """Ids of all matching certificates, each once, for a resolved search without filters."""
        assert self.rarest is not None  # noqa: S101 asked for resolved searches only
        found = _having(self.rarest).subquery()
        others = (_has(word, found.c.id) for word in self.words if word != self.rarest)
        return select(found.c.id).where(*others).group_by(found.c.id)

    def conditions(self) -> list[ColumnElement[bool]]:
        """The same as conditions on ``core_certificate``."""
        tested = [_has(word, _t.id) for word in self.words if word != self.rarest]
        if self.rarest is None:
            return tested
        return [_t.id.in_(_having(self.rarest)), *tested]

    def count(self, connection: Connection) -> int | None:
        """Number of certificates with the one word, up to ``COUNT_LIMIT + 1``.

        ``None`` when it must be counted on the certificates, because there are several words.
        """
        if len(self.words) != 1:
            return None
        return _count(connection, _having(self.words[0]).distinct(), limit=COUNT_LIMIT + 1)


def _having(word: str) -> Select[Any]:
    """Ids of certificates with a term, or a serial number, that begins with the word."""
    by_term = select(_terms.certificate_id.label("id")).where(_between(_terms.term, word))
    digits = serial_beginning(word)
    if digits is None:
        return by_term
    return select(union_all(by_term, _with_serial(digits)).subquery().c.id)


def _with_serial(digits: str) -> Select[Any]:
    found = select(_t.id.label("id")).where(_between(_t.serial, digits), _t.is_ca.is_(False))
    return found.with_hint(tables.certificate, "INDEXED BY ix_core_certificate_by_serial", "sqlite")


def _has(word: str, certificate_id: ColumnElement[int]) -> ColumnElement[bool]:
    has_term = exists(literal_column("1")).where(
        _terms.certificate_id == certificate_id, _between(_terms.term, word)
    )
    digits = serial_beginning(word)
    if digits is None:
        return has_term
    return or_(has_term, certificate_id.in_(_with_serial(digits)))


def _between(column: ColumnElement[str], beginning: str) -> ColumnElement[bool]:
    return and_(column >= beginning, column < beginning + _END)


def _count(connection: Connection, ids: Select[Any], *, limit: int) -> int:
    some = ids.limit(limit).subquery()
    return int(connection.execute(select(func.count()).select_from(some)).scalar_one())
