"""A tree of authorities to work with, and what must not change when something is refused."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from typing import Any

import pytest
from cryptography import x509
from sqlalchemy import text


@dataclass(frozen=True)
class Tree:
    """A root, an issuing authority below it, and clients with the API keys of the four roles."""

    installation: Any
    root: int
    ca: int
    admin: Any
    operator: Any
    viewer: Any

    def stored(self) -> dict[str, int]:
        """Rows of everything that issuing or keeping something would add."""
        tables = ("ca", "certificate", "certificate_term", "key", "csr", "template", "outbox")
        with self.installation.container.engine.connect() as connection:
            return {
                name: connection.execute(text(f"SELECT count(*) FROM core_{name}")).scalar_one()
                for name in (*tables, "intent", "held_request")
            }

    def issue(self, **fields: Any) -> dict[str, Any]:
        """Issue a certificate as the operator."""
        body = {
            "ca_id": self.ca,
            **({} if "csr" in fields else {"cn": "www.example.org"}),
            **fields,
        }
        answer = self.operator.post("/api/v2/certificates", body)
        assert answer.status_code == 201, answer.json
        return answer.json["data"]

    def der(self, certificate_id: int) -> x509.Certificate:
        """The certificate itself, as it is downloaded."""
        answer = self.viewer.get(f"/api/v2/certificates/{certificate_id}/export?format=der")
        assert answer.status_code == 200, answer.json
        return x509.load_der_x509_certificate(answer.data)


def with_role(installation: Any, role: str) -> Any:
    """A client with an API key that may do all that the role may."""
    return installation.with_key(role, *installation.container.roles().permissions(role))


def make_tree(installation: Any) -> Tree:
    """Create the tree."""
    admin = installation.with_key("admin")
    key = {"key_algorithm": "ECDSA", "key_size": "prime256v1"}
    root = admin.post("/api/v2/cas", {"common_name": "Test Root", "validity_years": 20, **key})
    assert root.status_code == 201, root.json
    body = {
        "common_name": "Test Issuing",
        "parent_id": root.json["data"]["id"],
        "path_length": 0,
        "validity_years": 5,
        **key,
    }
    ca = admin.post("/api/v2/cas", body)
    assert ca.status_code == 201, ca.json
    return Tree(
        installation,
        root.json["data"]["id"],
        ca.json["data"]["id"],
        admin,
        with_role(installation, "operator"),
        with_role(installation, "viewer"),
    )


@pytest.fixture
def tree(installation) -> Tree:
    """A tree of the test's own."""
    return make_tree(installation)


@pytest.fixture(scope="module")
def shared_tree(shared) -> Tree:
    """A tree that a module's tests share."""
    return make_tree(shared)


@pytest.fixture
def refused(shared_tree):
    """Send what must be refused; check the problem, that nothing was stored, and the audit row."""

    def send(method: str, path: str, *, client: Any = None, audit: str, **options: Any) -> Any:
        tree = shared_tree
        before, rows = tree.stored(), len(tree.installation.audit(audit))
        answer = (client or tree.admin).call(method, path, **options)
        assert 400 <= answer.status_code < 500, answer.data
        assert answer.content_type == "application/problem+json"
        assert answer.json["success"] is False
        assert answer.json["error"] == answer.json["detail"]
        assert tree.stored() == before
        noted = tree.installation.audit(audit)
        assert len(noted) == rows + 1, [row.details for row in noted[: len(noted) - rows]]
        assert noted[0].success is False
        return answer

    return send


def pointers(answer: Any) -> list[str]:
    """Where the problem document says the errors are."""
    return [field.get("pointer", field.get("parameter")) for field in answer.json.get("errors", ())]


@pytest.fixture(name="pointers")
def _pointers():
    return pointers


@pytest.fixture
def openssl():
    """Run openssl and return what it prints."""

    def run(*arguments: Any, data: bytes = b"") -> str:
        done = subprocess.run(
            ["openssl", *map(str, arguments)], input=data, capture_output=True, timeout=60
        )
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout.decode()

    return run
