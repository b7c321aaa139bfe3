"""Whole installations for tests: a container on a database of its own, and its application."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from flask import Flask
from flask.testing import FlaskClient
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource
from werkzeug.test import TestResponse

from ucm.api.actor import Actor, ActorKind
from ucm.api.services import Clock, Ids
from ucm.domain.passwords import PasswordHasher
from ucm.runtime.boot import BootSettings
from ucm.runtime.container import Container, Substitutes, build_container
from ucm.services.users import AccountRequest
from ucm.store.audit import AuditQuery, AuditRow
from ucm.store.engine import create_engine
from ucm.store.migrate import upgrade_core
from ucm.testing.fakes import FakeClock, SequenceIds

PASSWORD = "Correct-Horse-7"  # noqa: S105 of accounts that live for a test


class GivenBootSettings(BootSettings):
    """Boot settings from arguments only: what the machine's environment says does not count."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments only."""
        return (init_settings,)


def boot_settings(data_dir: Path, **fields: Any) -> BootSettings:
    """Boot settings for a directory that need not exist; ``fields`` replace defaults."""
    values: dict[str, Any] = {
        "data_dir": data_dir,
        "master_key_file": data_dir / "no-system-master.key",
        "secret_key": "a session secret of the tests' own",
    }
    return GivenBootSettings(**{**values, **fields})


def prepare_database(url: str) -> None:
    """Bring an empty database to the core's schema and leave no connection open."""
    engine = create_engine(url)
    upgrade_core(engine)
    engine.dispose()


@dataclass
class Installation:
    """Makes containers over one data directory and one database, and closes them."""

    data_dir: Path
    database_url: str
    clock: Clock = field(default_factory=FakeClock)
    ids: Ids = field(default_factory=SequenceIds)
    containers: list[Container] = field(default_factory=list)

    def build(
        self,
        *,
        plugins: Mapping[str, object] | str | None = None,
        environ: Mapping[str, str] | None = None,
        strict: bool = False,
        **boot: Any,
    ) -> Container:
        """A container, not started. ``plugins`` are objects by name, or names of installed ones as
        in ``UCM_PLUGINS``; ``boot`` are boot settings.
        """
        if isinstance(plugins, str):
            boot["plugins"], plugins = plugins, None
        made = build_container(
            boot_settings(self.data_dir, database_url=self.database_url, **boot),
            clock=self.clock,
            ids=self.ids,
            strict=strict,
            plugins=plugins,
            substitutes=Substitutes(
                hasher=PasswordHasher(memory_kib=8, passes=1), environ=environ or {}
            ),
        )
        self.containers.append(made)
        return made

    def start(
        self,
        *,
        plugins: Mapping[str, object] | str | None = None,
        environ: Mapping[str, str] | None = None,
        strict: bool = False,
        **boot: Any,
    ) -> Container:
        """A started container."""
        container = self.build(plugins=plugins, environ=environ, strict=strict, **boot)
        container.start(role="web")
        return container

    def close(self) -> None:
        """Close every container; closed ones do not mind."""
        for container in reversed(self.containers):
            container.close()


class ApiClient:
    """Calls the API as one account, by API key."""

    def __init__(self, client: FlaskClient, api_key: str) -> None:
        self._client = client
        self._headers = {"X-API-Key": api_key}

    def get(self, path: str, **options: Any) -> TestResponse:
        """GET."""
        return self._client.get(path, headers=self._headers, **options)

    def post(self, path: str, body: object = None, **options: Any) -> TestResponse:
        """POST with a JSON body."""
        return self._client.post(path, headers=self._headers, json=body, **options)

    def put(self, path: str, body: object = None, **options: Any) -> TestResponse:
        """PUT with a JSON body."""
        return self._client.put(path, headers=self._headers, json=body, **options)

    def patch(self, path: str, body: object = None, **options: Any) -> TestResponse:
        """PATCH with a JSON body."""
        return self._client.patch(path, headers=self._headers, json=body, **options)

    def delete(self, path: str, **options: Any) -> TestResponse:
        """DELETE."""
        return self._client.delete(path, headers=self._headers, **options)


def make_app(container: Container) -> Flask:
    """The application of a started container."""
    from ucm.web.app import create_app

    return create_app(container)


def api_client(app: Flask, container: Container, *, role: str = "admin") -> ApiClient:
    """A client that acts as a new account with a role."""
    user = container.users.create(
        AccountRequest(username=f"test-{role}", password=PASSWORD, role=role),
        actor=Actor.system("test"),
    )
    actor = Actor(
        kind=ActorKind.USER,
        name=user.username,
        user_id=user.id,
        role=role,
        permissions=container.roles().permissions(role),
    )
    created = container.apikeys.create(
        "test", permissions=sorted(actor.permissions), expires_days=None, actor=actor
    )
    return ApiClient(app.test_client(), created.secret)


def run_job(container: Container, job_id: str) -> None:
    """Run a job now, as the worker does. Raises ``AssertionError`` with its error when it fails."""
    from ucm.runtime.worker import make_scheduler

    scheduler = make_scheduler(container)
    scheduler.prepare()
    container.jobs.request(job_id, actor=Actor.system("test"))
    assert scheduler.run(job_id), f"{job_id} is being run by somebody else"
    with container.uow.read() as reader:
        error = reader.jobs.get(job_id).last_error
    assert not error, error


def rotate_master_key(container: Container) -> None:
    """Make a new master key and reseal everything in the database under it, without waiting."""
    from ucm.services.rotation import KeyRotation

    rotation = KeyRotation(
        uow=container.uow,
        master_key=container.master_key,
        clock=container.clock,
        grace=timedelta(0),
        wait=lambda seconds: None,
    )
    rotation.rotate(actor=Actor.system("test"))


def audited(container: Container, action: str) -> list[AuditRow]:
    """The audit rows of an action, newest first."""
    with container.uow.read() as reader:
        return list(reader.audit_log.page(AuditQuery(actions=(action,))).items)


def emitted(container: Container) -> list[str]:
    """Names of the events that wait in the outbox, oldest first."""
    with container.uow.read() as reader:
        return [row.name for row in reader.outbox.pending(1000)]
