"""How many SQL statements the main routes cost. A new one must be meant, and then raised here."""

from __future__ import annotations

from contextlib import contextmanager

import pytest
from sqlalchemy import event

from ucm.testing.builders import a_csr

CSR = a_csr().pem()

# BEGIN IMMEDIATE of a write unit counts on SQLite; reads begin in the driver.
CEILINGS = {
    "issue from a csr": 7,
    "issue with a key made here": 8,
    "list": 4,
    "list with 50 rows": 4,
    "search": 4,
    "detail": 3,
    "export with chain": 5,
    "revoke": 6,
    "authorities": 2,
    "tree": 2,
    "one authority": 5,
    "templates": 2,
    "templates of an authority": 4,
    "upload a csr": 5,
    "waiting csrs": 2,
    "dashboard counters": 5,
    "dashboard trend": 1,
    "dashboard activity": 1,
    "dashboard status": 2,
}


@contextmanager
def counted(engine):
    seen = []

    def note(connection, cursor, statement, parameters, context, many):
        seen.append(" ".join(statement.split())[:200])

    event.listen(engine, "before_cursor_execute", note)
    try:
        yield seen
    finally:
        event.remove(engine, "before_cursor_execute", note)


def calls(tree):
    """Each route as a function; the key's look-up is warm, as it is in a busy server."""
    issued = [tree.issue(cn=f"h{i}.example")["id"] for i in range(60)]
    victims = iter(issued)
    post, get = tree.operator.post, tree.viewer.get
    path = "/api/v2/certificates"
    return {
        "issue from a csr": lambda: post(path, {"ca_id": tree.ca, "csr": CSR}),
        "issue with a key made here": lambda: post(path, {"ca_id": tree.ca, "cn": "a.example"}),
        "list": lambda: get(path),
        "list with 50 rows": lambda: get(f"{path}?per_page=50"),
        "search": lambda: get(f"{path}?search=h1"),
        "detail": lambda: get(f"{path}/{issued[-1]}"),
        "export with chain": lambda: get(f"{path}/{issued[-1]}/export?include_chain=true"),
        "revoke": lambda: post(f"{path}/{next(victims)}/revoke", {"reason": "superseded"}),
        "authorities": lambda: get("/api/v2/cas"),
        "tree": lambda: get("/api/v2/cas/tree"),
        "one authority": lambda: get(f"/api/v2/cas/{tree.ca}"),
        "templates": lambda: get("/api/v2/templates"),
        "templates of an authority": lambda: get(f"/api/v2/cas/{tree.ca}/templates"),
        "upload a csr": lambda: post("/api/v2/csrs/upload", {"pem": CSR}),
        "waiting csrs": lambda: get("/api/v2/csrs"),
        "dashboard counters": lambda: get("/api/v2/dashboard/stats/overview"),
        "dashboard trend": lambda: get("/api/v2/dashboard/certificate-trend?days=30"),
        "dashboard activity": lambda: get("/api/v2/dashboard/activity"),
        "dashboard status": lambda: get("/api/v2/dashboard/system-status"),
    }


@pytest.fixture(scope="module")
def routes(shared_tree):
    return calls(shared_tree)


@pytest.mark.parametrize("name", CEILINGS)
def test_statements(routes, shared_tree, name):
    warm = routes[name]()
    assert warm.status_code in (200, 201), warm.data
    with counted(shared_tree.installation.container.engine) as seen:
        answer = routes[name]()
    assert answer.status_code in (200, 201)
    assert len(seen) <= CEILINGS[name], "\n".join(seen)
