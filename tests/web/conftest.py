"""An installation of a test's own, and clients that are signed in to it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ucm.api.actor import Actor, ActorKind
from ucm.domain.passwords import PasswordHasher
from ucm.runtime.boot import BootSettings
from ucm.runtime.container import Container, Substitutes, build_container
from ucm.services.users import AccountRequest
from ucm.store.audit import AuditQuery
from ucm.testing.app import boot_settings
from ucm.testing.fakes import FakeClock
from ucm.web.app import Application, create_app

MASTER_KEY = "dWNtLXRlc3RzLW1hc3Rlci1rZXktMzItYnl0ZXMhISE="
PASSWORD = "Str0ng-enough"
ROLES = ("admin", "operator", "auditor", "viewer")
CHEAP = PasswordHasher(memory_kib=1024, passes=1)
_BASE = "https://localhost"


class Api:
    """A client of the application; a signed-in one sends its CSRF token by itself."""

    def __init__(self, app: Application, *, headers: dict[str, str] | None = None) -> None:
        self.client = app.test_client()
        self.headers = dict(headers or {})

    def call(self, method: str, path: str, **options: Any) -> Any:
        headers = {**self.headers, **options.pop("headers", {})}
        return self.client.open(
            path,
            method=method,
            base_url=_BASE,
            headers={name: value for name, value in headers.items() if value is not None},
            **options,
        )

    def get(self, path: str, **options: Any) -> Any:
        return self.call("GET", path, **options)

    def post(self, path: str, json: Any = None, **options: Any) -> Any:
        return self.call("POST", path, **_body(json, options))

    def put(self, path: str, json: Any = None, **options: Any) -> Any:
        return self.call("PUT", path, **_body(json, options))

    def patch(self, path: str, json: Any = None, **options: Any) -> Any:
        return self.call("PATCH", path, **_body(json, options))

    def delete(self, path: str, **options: Any) -> Any:
        return self.call("DELETE", path, **options)

    def sign_in(self, username: str, password: str = PASSWORD) -> Any:
        answer = self.post("/api/v2/auth/login", {"username": username, "password": password})
        if answer.status_code == 200:
            self.headers["X-CSRF-Token"] = answer.json["data"]["csrf_token"]
        return answer


def _body(json: Any, options: dict[str, Any]) -> dict[str, Any]:
    return options if json is None else {**options, "json": json}


@dataclass(frozen=True, slots=True)
class Installation:
    """A started container with its application; one account per role, named like the role."""

    container: Container
    app: Application
    clock: FakeClock

    def api(self, **headers: str) -> Api:
        """A client that nobody signed in."""
        return Api(self.app, headers=headers)

    def signed_in(self, username: str) -> Api:
        """A client with a session of that account."""
        api = self.api()
        answer = api.sign_in(username)
        assert answer.status_code == 200, answer.json
        return api

    def with_key(self, username: str, *scopes: str) -> Api:
        """A client that sends an API key of that account."""
        user = self.container.users.by_username(username)
        owner = Actor(
            kind=ActorKind.USER,
            name=username,
            user_id=user.id,
            role=user.role,
            permissions=self.container.roles().permissions(user.role),
        )
        made = self.container.apikeys.create(
            "test", permissions=scopes or ("*",), expires_days=30, actor=owner
        )
        return Api(self.app, headers={"X-API-Key": made.secret})

    def audit(self, action: str | None = None) -> list[Any]:
        """Audit rows, newest first."""
        with self.container.uow.read() as reader:
            query = AuditQuery(actions=(action,) if action else (), per_page=100)
            return list(reader.audit_log.page(query).items)


def settings_of(directory: Path, *, database_url: str) -> BootSettings:
    """Settings of an installation whose secrets do not depend on its directory."""
    return boot_settings(
        directory / "data", database_url=database_url, key_encryption_key=MASTER_KEY
    )


def _started(boot: BootSettings) -> tuple[Container, FakeClock]:
    clock = FakeClock()
    container = build_container(
        boot, clock=clock, strict=True, substitutes=Substitutes(hasher=CHEAP, environ={})
    )
    container.start(role="web")
    return container, clock


@pytest.fixture(scope="session")
def _prepared_url(databases, tmp_path_factory):
    def prepare(url: str) -> None:
        directory = tmp_path_factory.mktemp("prepared")
        container, _ = _started(settings_of(directory, database_url=url))
        for role in ROLES:
            container.users.create(
                AccountRequest(
                    username=role,
                    email=f"{role}@example.org",
                    password=PASSWORD,
                    role=role,
                ),
                actor=Actor.system("tests"),
            )
        container.close()

    return lambda dialect: databases.prepared(dialect, label="web", prepare=prepare)


def _installed(directory: Path, url: str) -> Iterator[Installation]:
    container, clock = _started(settings_of(directory, database_url=url))
    try:
        yield Installation(container, create_app(container), clock)
    finally:
        container.close()


@pytest.fixture
def installation(tmp_path, _prepared_url, database_dialect, databases):
    """A fresh installation."""
    url = _prepared_url(database_dialect)
    yield from _installed(tmp_path, url)
    databases.discard(url)


@pytest.fixture(scope="module")
def shared(tmp_path_factory, _prepared_url, database_dialect, databases):
    """An installation that a module's tests share: for tests that change nothing they rely on."""
    url = _prepared_url(database_dialect)
    yield from _installed(tmp_path_factory.mktemp("shared"), url)
    databases.discard(url)


@pytest.fixture
def empty_installation(tmp_path, database_url):
    """A fresh installation without any account."""
    yield from _installed(tmp_path, database_url)


@pytest.fixture
def admin(installation):
    """A session of an administrator."""
    return installation.signed_in("admin")
