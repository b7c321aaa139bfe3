"""Lists agree with a naive model: filters, search, order, pages and cursors."""

import dataclasses
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import event

from ucm.api.errors import Invalid
from ucm.api.issuance import RevocationReason
from ucm.api.views import CertificateStatus
from ucm.store import certificate_search
from ucm.store.certificate_query import SORT_KEYS, CertificateQuery
from ucm.store.search_terms import certificate_terms, query_terms, serial_beginning

ROWS = 160
_REASONS = (RevocationReason.SUPERSEDED, RevocationReason.CERTIFICATE_HOLD)


@pytest.fixture
def listed(uow, operator, certificate, add_ca, clock):
    """Certificates of two authorities and of none, of every status, with many equal values."""
    with uow.begin(operator) as tx:
        authorities = [None, add_ca(tx, 900_001), add_ca(tx, 900_002)]
        template_id = _template(tx)
        for number in range(1, ROWS + 1):
            changes = {
                "ca_id": authorities[number % 3],
                "issuer": f"CN=CA {number % 3}",
                "not_after": clock.now() + timedelta(days=(number * 7) % 90 - 20),
                "not_before": clock.now() - timedelta(days=number % 5),
                "description": f"Host {number % 4}",
                "template_id": template_id if number % 10 == 0 else None,
            }
            if number % 6 == 0:
                changes |= {
                    "revoked_at": clock.now(),
                    "revocation_reason": _REASONS[number // 6 % 2],
                }
            tx.certificates.add(certificate(number, **changes))
    return authorities


def _template(tx):
    from ucm.store.templates import NewTemplate

    return tx.templates.add(NewTemplate(name="t", template_type="custom", key_type="EC-P256"))


SORT_VALUES = {
    "created_at": lambda view: (view.id,),
    "valid_to": lambda view: (view.not_after, view.id),
    "valid_from": lambda view: (view.not_before, view.id),
    "subject": lambda view: (view.subject, view.id),
    "issuer": lambda view: (view.issuer, view.id),
    "descr": lambda view: (view.description, view.id),
    "key_algo": lambda view: (view.key_type, view.id),
    "serial_number": lambda view: (view.serial, view.id),
}


def _rank(view):
    if view.revoked_at is None:
        return 0
    return 2 if view.revocation_reason is RevocationReason.CERTIFICATE_HOLD else 1


SORT_VALUES["status"] = SORT_VALUES["revoked"] = lambda view: (
    _rank(view),
    view.not_after,
    view.id,
)


def naive(views, query, now):
    """The list as it is meant, by looking at everything."""

    def matches(view):
        terms = certificate_terms(
            names=view.san_dns, texts=(view.common_name, view.description, "Example")
        )

        def has(word):
            digits = serial_beginning(word)
            by_serial = digits is not None and view.serial.startswith(digits)
            return by_serial or any(term.startswith(word) for term in terms)

        return (
            view.is_ca is query.is_ca
            and (not query.status or view.status(now) in query.status)
            and (not query.ca_ids or view.ca_id in query.ca_ids)
            and (not query.sources or view.source in query.sources)
            and (query.template_id is None or view.template_id == query.template_id)
            and all(has(word) for word in query_terms(query.search))
        )

    found = [view for view in views if matches(view)]
    return sorted(found, key=SORT_VALUES[query.sort_by], reverse=query.descending)


words = st.sampled_from(
    [
        "",
        "",
        "www",
        "berlin.example.com",
        "api-1",
        "example",
        "host 2",
        "Host 1 oslo",
        "db-7 example",
        "CN=mail-2.oslo.example.com",
        "nothing-like-it",
        f"{2**64 + 40:x}",
        "10000:0000",
        "vpn-3 10000",
    ]
)
queries = st.builds(
    dict,
    status=st.lists(st.sampled_from(CertificateStatus), unique=True).map(tuple),
    ca_numbers=st.lists(st.sampled_from([1, 2]), unique=True),
    sources=st.lists(st.sampled_from(["api", "acme", "scep", "none"]), unique=True).map(tuple),
    with_template=st.sampled_from([False, False, False, True]),
    search=words,
    sort_by=st.sampled_from(SORT_KEYS),
    descending=st.booleans(),
    page=st.integers(1, 12),
    per_page=st.integers(1, 40),
)


@pytest.mark.parametrize("limits", [(5_000, 10_000, 20_000), (10_000, 3, 12), (10_000, 0, 0)])
def test_every_page_is_what_the_model_says(uow, listed, clock, monkeypatch, limits):
    """The limits make small tables take each of the plans: resolve first, mixed, walk."""
    for name, value in zip(("COUNT_LIMIT", "_FEW", "_FEW_OF_SEVERAL"), limits, strict=True):
        monkeypatch.setattr(certificate_search, name, value)
    now = clock.now()

    @settings(
        max_examples=60,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture],
    )
    @given(wish=queries)
    def check(wish):
        fields = dict(wish)
        fields["ca_ids"] = tuple(listed[n] for n in fields.pop("ca_numbers"))
        fields["template_id"] = 1 if fields.pop("with_template") else None
        query = CertificateQuery(**fields)
        with uow.read() as reader:
            views = list(reader.certificates.stream())
            page = reader.certificates.page(query, now=now)
            expected = naive(views, query, now)
            start = (query.page - 1) * query.per_page
            shown = [view.id for view in expected[start : start + query.per_page]]
            assert [view.id for view in page.items] == shown
            assert page.total == len(expected)
            assert (page.next_cursor is not None) == (
                bool(shown) and start + query.per_page < len(expected)
            )
            if page.next_cursor is not None:
                behind = dataclasses.replace(query, after=page.next_cursor)
                following = reader.certificates.page(behind, now=now)
                start += query.per_page
                assert [view.id for view in following.items] == [
                    view.id for view in expected[start : start + query.per_page]
                ]
                assert following.total == len(expected)

    check()


@pytest.mark.parametrize("sort_by", SORT_KEYS)
def test_cursors_walk_the_whole_list_once(uow, listed, sort_by):
    query = CertificateQuery(sort_by=sort_by, per_page=13)
    seen = []
    with uow.read() as reader:
        while True:
            page = reader.certificates.page(query)
            seen += [view.id for view in page.items]
            if page.next_cursor is None:
                break
            query = dataclasses.replace(query, after=page.next_cursor)
    assert len(seen) == len(set(seen)) == ROWS


def test_a_cursor_stays_put_while_rows_come_and_go(uow, listed, operator, certificate):
    query = CertificateQuery(per_page=10)
    with uow.read() as reader:
        first = reader.certificates.page(query)
    with uow.begin(operator) as tx:
        tx.certificates.add(certificate(5000))
        tx.certificates.delete(first.items[3].id)
    with uow.read() as reader:
        second = reader.certificates.page(dataclasses.replace(query, after=first.next_cursor))
    assert second.items[0].id == first.items[-1].id - 1


@pytest.mark.parametrize(
    "cursor", ["", "x", "bm9uc2Vuc2U", "WyJjcmVhdGVkX2F0LSIsInR3byJd", "W10", "é", "A" * 5000]
)
def test_a_damaged_cursor_is_refused(uow, listed, cursor):
    with uow.read() as reader, pytest.raises(Invalid) as caught:
        reader.certificates.page(CertificateQuery(after=cursor))
    assert caught.value.fields[0].pointer == "/cursor"


def test_a_cursor_of_another_order_is_refused(uow, listed):
    with uow.read() as reader:
        cursor = reader.certificates.page(CertificateQuery(sort_by="subject")).next_cursor
        for other in (
            CertificateQuery(sort_by="issuer", after=cursor),
            CertificateQuery(sort_by="subject", descending=False, after=cursor),
        ):
            with pytest.raises(Invalid):
                reader.certificates.page(other)


@pytest.mark.parametrize("changes", [{"sort_by": "colour"}, {"page": 0}, {"per_page": 0}])
def test_a_wrong_query_is_refused(changes):
    with pytest.raises(Invalid):
        CertificateQuery(**changes)


def test_a_search_counts_up_to_its_limit(uow, listed, monkeypatch):
    for name, value in (("COUNT_LIMIT", 20), ("_FEW", 10), ("_FEW_OF_SEVERAL", 10)):
        monkeypatch.setattr(certificate_search, name, value)
    with uow.read() as reader:
        many = reader.certificates.page(CertificateQuery(search="example"))
        both = reader.certificates.page(CertificateQuery(search="example host"))
        few = reader.certificates.page(CertificateQuery(search="www-16.porto"))
    assert (many.total, many.total_is_exact) == (20, False)
    assert (both.total, both.total_is_exact) == (20, False)
    assert (few.total, few.total_is_exact) == (1, True)


def test_ca_certificates_are_listed_apart_and_searched_by_their_texts(uow, listed):
    with uow.read() as reader:
        cas = reader.certificates.page(CertificateQuery(is_ca=True))
        one = reader.certificates.page(CertificateQuery(is_ca=True, search="900001."))
    assert cas.total == 2
    assert [view.id for view in one.items] == [min(view.id for view in cas.items)]


def test_a_list_page_takes_few_statements(uow, engine, listed):
    seen = []
    event.listen(engine, "before_cursor_execute", lambda *args: seen.append(args[2]))
    for query, most in (
        (CertificateQuery(), 4),
        (CertificateQuery(status=(CertificateStatus.REVOKED,), sources=("api",)), 3),
        (CertificateQuery(search="berlin"), 4),
        (CertificateQuery(search="berlin www", sort_by="subject"), 5),
    ):
        seen.clear()
        with uow.read() as reader:
            reader.certificates.page(query)
        counted = [statement for statement in seen if not statement.startswith("BEGIN")]
        assert len(counted) <= most, counted


def test_lists_use_indexes_only(uow, engine, listed):
    """On SQLite the plan is looked at: no page or count scans the table or sorts what it finds."""
    if engine.dialect.name != "sqlite":
        pytest.skip("plans of PostgreSQL depend on statistics")
    plans = []

    def explain(connection, cursor, statement, parameters, context, executemany):
        if statement.startswith("SELECT") and not statement.startswith("SELECT count(*) AS count"):
            cursor.execute(f"EXPLAIN QUERY PLAN {statement}", parameters)
            plans.extend(row[3] for row in cursor.fetchall())

    event.listen(engine, "before_cursor_execute", explain)
    for sort_by in SORT_KEYS:
        for filters in ({}, {"sources": ("api",)}, {"status": (CertificateStatus.REVOKED,)}):
            with uow.read() as reader:
                reader.certificates.page(CertificateQuery(sort_by=sort_by, **filters))
    assert plans
    for step in plans:
        assert step != "SCAN core_certificate"
        assert "USE TEMP B-TREE FOR ORDER BY" not in step
