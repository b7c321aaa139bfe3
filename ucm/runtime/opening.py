"""Before any service exists: load plugins, declare settings, open and migrate the database."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from sqlalchemy import Engine, make_url
from sqlalchemy.exc import ArgumentError

from ucm.api.errors import Invalid
from ucm.api.events import CORE_EVENTS
from ucm.api.manifest import PluginManifest
from ucm.api.services import Clock
from ucm.domain.audit_actions import CORE_AUDIT_ACTIONS
from ucm.domain.rbac import Roles
from ucm.domain.settings import GeneralSettings
from ucm.issuance.extensions import CORE_OIDS
from ucm.issuance.lints import CORE_LINTS
from ucm.issuance.policy import OPERATOR_ORIGINS
from ucm.issuance.profiles import BUILT_IN
from ucm.runtime.boot import DATABASE_FILE, BootError, BootSettings
from ucm.runtime.contribute import Names
from ucm.runtime.contributions import Contributions
from ucm.runtime.discovery import Candidate, Wanted, by_name, discover, select
from ucm.runtime.lifecycle import PluginHost
from ucm.runtime.registry import Plugin, PluginRefused, State, Step
from ucm.runtime.settings import CORE, SettingsRegistry
from ucm.services.masterkey import KeyPlaces
from ucm.store import migrate
from ucm.store.engine import create_engine

log = logging.getLogger("ucm.runtime")

CORE_ACTIONS = frozenset(action.name for action in CORE_AUDIT_ACTIONS)
CORE_EVENT_NAMES = frozenset(event.name for event in CORE_EVENTS)


def load_plugins(
    boot: BootSettings, *, clock: Clock, strict: bool | None, extra: Mapping[str, object]
) -> PluginHost:
    """The host with the selected plugins and the ``extra`` objects loaded."""
    candidates = [c for c in discover() if c.name not in extra]
    candidates += [Candidate.of(name, plugin=plugin) for name, plugin in extra.items()]
    wanted = select(boot.plugins, installed=by_name(candidates))
    chosen = {item.name for item in wanted}
    wanted += [Wanted(name) for name in extra if name not in chosen]
    names = Names()
    names.claim("permission", Roles().known_permissions(), owner="core")
    names.claim("audit action", CORE_ACTIONS, owner="core")
    names.claim("event", CORE_EVENT_NAMES, owner="core")
    names.claim("table prefix", [migrate.CORE_PREFIX], owner="core")
    names.claim("profile", BUILT_IN, owner="core")
    names.claim("lint", [lint.name for lint in CORE_LINTS], owner="core")
    names.claim("extension", [oid.dotted_string for oid in CORE_OIDS], owner="core")
    names.claim("protocol", OPERATOR_ORIGINS, owner="core")
    host = PluginHost(
        candidates,
        wanted=wanted,
        clock=clock,
        names=names,
        strict=boot.strict_plugins if strict is None else strict,
    )
    host.load()
    return host


def declare_settings(
    host: PluginHost, *, clock: Clock, environ: Mapping[str, str] | None = None
) -> SettingsRegistry:
    """The core's settings class and the plugins', with what the environment says."""
    settings = SettingsRegistry(clock=clock, environ=environ)
    settings.declare(CORE, GeneralSettings)

    def declare(plugin: Plugin) -> None:
        if plugin.contributions.settings is not None:
            settings.declare(plugin.name, plugin.contributions.settings)

    host.each(Step.SETTINGS, call=declare)
    settings.check_environment(installed=[plugin.name for plugin in host.registry])
    return settings


def load_settings(settings: SettingsRegistry, plugin: Plugin) -> None:
    """Read a plugin's database values. Raises ``PluginRefused`` when they do not fit."""
    if plugin.contributions.settings is not None:
        settings.load(plugin.name)


def open_database(boot: BootSettings) -> Engine:
    """The engine. Raises ``BootError`` for a URL that cannot be used."""
    if boot.database_url is None:
        # For its owner only, whatever the umask; SQLite gives its other files the same mode.
        file = boot.data_dir / DATABASE_FILE
        if not file.exists():
            file.touch(mode=0o600)
    try:
        return create_engine(boot.database)
    except Invalid as error:
        raise BootError(f"UCM_DATABASE_URL: {error.detail}", hint=error.hint or "") from None


def missing_database(boot: BootSettings) -> Path | None:
    """The SQLite file that should be there and is not; ``None`` when it is, or when a database
    server keeps the data. Opening the database would make it."""
    try:
        url = make_url(boot.database)
    except ArgumentError:
        return None  # ``open_database`` says what is wrong with it
    if url.get_backend_name() != "sqlite" or not url.database:
        return None
    file = Path(url.database)
    return None if file.exists() else file


@contextlib.contextmanager
def alone(path: Path) -> Iterator[None]:
    """Of the processes on this machine one is here at a time: they all migrate at start."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def migrate_all(engine: Engine, host: PluginHost) -> None:
    """Bring the core's tables, then each plugin's to the newest revision, each by itself."""
    logging.getLogger("alembic").setLevel(logging.WARNING)  # it greets at every start
    core = {"prefix": migrate.CORE_PREFIX, "package": migrate.CORE_PACKAGE}
    if migrate.pending(engine, **core):
        log.info("the database is brought to this version's schema")
        migrate.upgrade_core(engine)

    def upgrade(plugin: Plugin) -> None:
        manifest, migrations = plugin.manifest, plugin.contributions.migrations
        if manifest is None:
            return
        _check_core_schema(manifest)
        if migrations is None:
            return
        _check_revisions(manifest, package=migrations.package)
        owner = {"prefix": manifest.table_prefix, "package": migrations.package}
        if migrate.pending(engine, **owner):
            migrate.upgrade_owner(engine, owner=manifest.name, **owner)

    host.each(Step.MIGRATE, call=upgrade)


def _check_core_schema(manifest: PluginManifest) -> None:
    needed = manifest.needs_core_schema
    if needed is not None and needed not in migrate.revisions(migrate.CORE_PACKAGE):
        raise PluginRefused(
            f"the plugin needs the core's schema {needed}, which this UCM does not have; "
            "install a newer UCM",
            state=State.INCOMPATIBLE,
        )


def _check_revisions(manifest: PluginManifest, *, package: str) -> None:
    for revision in migrate.revisions(package):
        if not revision.startswith(f"{manifest.name}_"):
            raise PluginRefused(
                f"revision {revision!r} in {package} must be named {manifest.name}_0001 and so on"
            )


def key_places(boot: BootSettings) -> KeyPlaces:
    """Where the master key may be."""
    given = boot.key_encryption_key
    return KeyPlaces(
        system_file=boot.master_key_file,
        environment=given.get_secret_value() if given else None,
        data_file=boot.data_dir / "master.key",
    )


class Known:
    """Whether a name is of the core or of a plugin that is up; asked for every audit row."""

    def __init__(
        self, core: frozenset[str], *, host: PluginHost, names: Callable[[Contributions], set[str]]
    ) -> None:
        self._core = core
        self._host = host
        self._names = names
        self._seen: Contributions | None = None
        self._known = core

    def __call__(self, name: str) -> bool:
        current = self._host.contributions
        if current is not self._seen:
            self._seen, self._known = current, self._core | self._names(current)
        return name in self._known
