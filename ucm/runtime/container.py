"""The composition root: the one place that constructs services and gives them to each other."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Literal

from sqlalchemy import Engine

from ucm.api.actor import Actor
from ucm.api.events import CORE_EVENTS, Event
from ucm.api.services import Clock, Ids
from ucm.domain.audit_actions import CORE_AUDIT_ACTIONS
from ucm.domain.passwords import PasswordHasher, PasswordRules
from ucm.domain.rbac import Roles
from ucm.domain.sealing import Keyring, OwnedSealer
from ucm.domain.settings import GeneralSettings
from ucm.issuance.custody import Custody
from ucm.issuance.lint import Linter
from ucm.issuance.pipeline import Pipeline
from ucm.issuance.profiles import Profiles
from ucm.issuance.signer import Signer
from ucm.runtime.boot import BootSettings, prepare_data_dir
from ucm.runtime.clock import SystemClock, SystemIds
from ucm.runtime.context import ContextMaker
from ucm.runtime.contributions import Contributions
from ucm.runtime.dispatch import Dispatcher
from ucm.runtime.lifecycle import PluginHost
from ucm.runtime.opening import (
    CORE_ACTIONS,
    CORE_EVENT_NAMES,
    Known,
    alone,
    declare_settings,
    key_places,
    load_plugins,
    load_settings,
    migrate_all,
    open_database,
)
from ucm.runtime.purge import purge
from ucm.runtime.registry import Step
from ucm.runtime.settings import SettingsRegistry
from ucm.services.apikeys import ApiKeyService
from ucm.services.audit import AuditService
from ucm.services.auth import AuthService
from ucm.services.cas import AuthorityService
from ucm.services.certificates import CertificateService
from ucm.services.csrs import CsrService
from ucm.services.database import DatabaseService
from ucm.services.encryption import EncryptionService, SealOwners
from ucm.services.health import HealthService
from ucm.services.https import ServerCertificateService
from ucm.services.jobs import JobService
from ucm.services.keys import KeyService, PluginKeys
from ucm.services.masterkey import MasterKeyService
from ucm.services.overview import OverviewService
from ucm.services.rotation import KeyRotation
from ucm.services.status import StatusService
from ucm.services.templates import TemplateService
from ucm.services.tls_files import TLSFiles
from ucm.services.users import UserService
from ucm.store.maintenance import DatabaseMaintenance
from ucm.store.uow import UnitOfWork

log = logging.getLogger("ucm.runtime")

Role = Literal["web", "worker", "cli", "doctor"]


@dataclass(kw_only=True, slots=True)
class Container:
    """Every service of one process. A process that forks calls ``detach`` before, and each child
    ``start``.
    """

    boot: BootSettings
    clock: Clock
    ids: Ids
    engine: Engine
    uow: UnitOfWork
    host: PluginHost
    settings: SettingsRegistry
    master_key: MasterKeyService
    keys: KeyService
    issuance: Pipeline
    cas: AuthorityService
    certificates: CertificateService
    csrs: CsrService
    templates: TemplateService
    users: UserService
    auth: AuthService
    apikeys: ApiKeyService
    audit: AuditService
    overview: OverviewService
    jobs: JobService
    encryption: EncryptionService
    rotation: KeyRotation
    health: HealthService
    database: DatabaseService
    https: ServerCertificateService
    status: StatusService
    roles: Callable[[], Roles]
    started: bool = False

    @property
    def dispatcher(self) -> Dispatcher:
        """The only caller of plugins."""
        return self.host.dispatcher

    @property
    def sealer(self) -> Keyring:
        """Seals and unseals secrets of the database."""
        return self.master_key.keyring

    def safe_mode_reason(self) -> str | None:
        """Why nothing that needs keys works, or ``None``."""
        return self.master_key.state().safe_mode_reason

    def event_type(self, name: str) -> type[Event] | None:
        """The class of an event of the core or of a plugin that is up."""
        for kind in (*CORE_EVENTS, *self.host.contributions.event_types):
            if kind.name == name:
                return kind
        return None

    def start(self, *, role: Role) -> None:
        """Start the plugins. Raises ``BootError`` when one that must run does not.

        For a ``doctor`` the core writes nothing.
        """
        self.host.start()
        self.started = True
        if role != "doctor":
            self.templates.ensure_system_templates()
        if role in ("web", "worker"):
            self._record_plugins()
        for state in self.host.states():
            if state.enabled:
                log.info("plugin %s: %s", state.name, state.state)

    def detach(self) -> None:
        """Close the database before a fork: no connection survives one. What was built stays, and
        the children share its memory.

        Raises ``BootError`` when a plugin that must run failed already, ``RuntimeError`` when the
        plugins were started: what they hold does not survive a fork either.
        """
        if self.started:
            raise RuntimeError("a started container cannot be detached")
        self.host.check_required()
        self.uow.close()
        strays = [t.name for t in threading.enumerate() if t is not threading.current_thread()]
        if strays:
            log.warning(
                "threads run before the fork and will be missing after it: %s; plugins start "
                "threads in ucm_start",
                ", ".join(strays),
            )

    def purge(self, name: str, *, actor: Actor) -> None:
        """Drop a running plugin's tables, settings, keys and jobs for good.

        Raises ``NotFound``, and ``Conflict`` when the plugin does not run or its data is needed.
        """
        purge(
            name,
            host=self.host,
            uow=self.uow,
            keys=self.keys,
            engine=self.engine,
            actor=actor,
        )

    def close(self) -> None:
        """Stop the plugins and close the database; safe to repeat."""
        if self.started:
            self.started = False
            self.host.stop()
        self.uow.close()

    def _record_plugins(self) -> None:
        with self.uow.read() as reader:
            known = {row.name: (row.version, row.state, row.reason) for row in reader.plugins.all()}
        states = [state for state in self.host.states() if state.enabled]
        if all(known.get(s.name) == (s.version, s.state, s.reason) for s in states):
            return
        with self.uow.begin(Actor.system("plugin host")) as tx:
            for state in states:
                tx.plugins.record(
                    state.name,
                    version=state.version,
                    state=state.state,
                    step=state.step,
                    reason=state.reason,
                )


@dataclass(frozen=True, kw_only=True, slots=True)
class Substitutes:
    """What tests replace: a cheap password hash, an environment of their own."""

    hasher: PasswordHasher | None = None
    environ: Mapping[str, str] | None = None


def build_container(  # noqa: PLR0913 each is a choice of its own, all have defaults
    boot: BootSettings,
    *,
    clock: Clock | None = None,
    ids: Ids | None = None,
    strict: bool | None = None,
    plugins: Mapping[str, object] | None = None,
    substitutes: Substitutes | None = None,
    inspecting: bool = False,
) -> Container:
    """Open the data, migrate it, load the plugins and construct every service; nothing runs yet.

    ``plugins`` are further plugin objects by name, enabled besides ``UCM_PLUGINS`` (tests,
    embedding). ``inspecting`` makes nothing that is missing: for a database that is migrated and
    only looked at. Raises ``BootError`` when UCM cannot start as configured, ``StorageFailed`` for
    the database.
    """
    clock, ids = clock or SystemClock(), ids or SystemIds()
    prepare_data_dir(boot.data_dir)
    host = load_plugins(boot, clock=clock, strict=strict, extra=plugins or {})
    substitutes = substitutes or Substitutes()
    settings = declare_settings(host, clock=clock, environ=substitutes.environ)
    engine = open_database(boot)
    with nullcontext() if inspecting else alone(boot.data_dir / "migrate.lock"):
        migrate_all(engine, host)
    uow = UnitOfWork(
        engine,
        clock=clock,
        ids=ids,
        audit_actions=Known(
            CORE_ACTIONS, host=host, names=lambda parts: {a.name for a in parts.audit_actions}
        ),
        event_types=Known(
            CORE_EVENT_NAMES, host=host, names=lambda parts: {e.name for e in parts.event_types}
        ),
        publish=host.dispatcher.publish,
    )
    master_key = MasterKeyService(key_places(boot), uow=uow, inspecting=inspecting)
    master_key.start()
    settings.attach(uow, sealer=master_key.keyring)
    host.each(Step.SETTINGS, call=partial(load_settings, settings))
    core = _Core(clock, ids, engine, uow, settings, master_key)
    container = _construct(boot, host=host, core=core, hasher=substitutes.hasher)
    host.contribute(
        ContextMaker(
            clock=clock,
            ids=ids,
            uow=uow,
            issuance=container.issuance,
            certificates=container.certificates,
            cas=container.cas,
            keys=partial(PluginKeys, container.keys),
            sealer=partial(OwnedSealer, master_key.keyring),
            settings=settings,
            dispatcher=host.dispatcher,
            public_url=lambda: settings.general().base_url or boot.public_base(),
            public_http_url=lambda: settings.general().protocol_base_url or boot.public_http_base(),
        )
    )
    return container


@dataclass(frozen=True, slots=True)
class _Core:
    """What every service is made from."""

    clock: Clock
    ids: Ids
    engine: Engine
    uow: UnitOfWork
    settings: SettingsRegistry
    master_key: MasterKeyService


def _password_rules(settings: GeneralSettings) -> PasswordRules:
    return PasswordRules(
        minimum_length=settings.min_password_length,
        maximum_length=settings.max_password_length,
        uppercase=settings.password_require_uppercase,
        lowercase=settings.password_require_lowercase,
        digit=settings.password_require_numbers,
        special=settings.password_require_special,
    )


def _construct(
    boot: BootSettings,
    *,
    host: PluginHost,
    core: _Core,
    hasher: PasswordHasher | None,
) -> Container:
    clock, ids, uow, settings = core.clock, core.ids, core.uow, core.settings
    keys = KeyService(uow=uow, backends=host.key_backend)
    issuance = Pipeline(
        uow=uow,
        guards=host.dispatcher,
        signer=Signer(Custody(host.key_backend), host.dispatcher),
        linter=Linter(lambda: host.lints),
        profiles=Profiles(lambda: host.contributions.profiles),
        clock=clock,
        ids=ids,
        extensions=lambda: host.contributions.extensions,
        adopt=lambda tx, issued, request: cas.adopt_resumed(tx, issued, request),
    )
    cas = AuthorityService(uow=uow, issuance=issuance, keys=keys, clock=clock, ids=ids)
    hasher = hasher or PasswordHasher()
    roles = _Roles(host)
    host.paused_jobs = partial(_paused_jobs, uow)
    certificates = CertificateService(uow=uow, issuance=issuance, keys=keys, clock=clock, ids=ids)
    jobs = JobService(uow=uow)
    health = HealthService(
        uow=uow,
        clock=clock,
        data_dir=boot.data_dir,
        plugin_checks=lambda: host.health_checks,
        isolated=lambda check: check(),  # the host's checks do not raise
    )
    return Container(
        boot=boot,
        clock=clock,
        ids=ids,
        engine=core.engine,
        uow=uow,
        host=host,
        settings=settings,
        master_key=core.master_key,
        keys=keys,
        issuance=issuance,
        cas=cas,
        certificates=certificates,
        csrs=CsrService(uow=uow, issuance=issuance, keys=keys, cas=cas, clock=clock, ids=ids),
        templates=TemplateService(uow=uow),
        users=UserService(
            uow=uow,
            clock=clock,
            ids=ids,
            hasher=hasher,
            roles=roles,
            rules=lambda: _password_rules(settings.general()),
        ),
        auth=AuthService(
            uow=uow,
            clock=clock,
            ids=ids,
            hasher=hasher,
            roles=roles,
            settings=settings.general,
        ),
        apikeys=ApiKeyService(uow=uow, clock=clock, ids=ids, roles=roles),
        audit=AuditService(
            uow=uow,
            clock=clock,
            actions=lambda: (*CORE_AUDIT_ACTIONS, *host.contributions.audit_actions),
        ),
        overview=OverviewService(uow=uow, clock=clock),
        jobs=jobs,
        encryption=EncryptionService(
            uow=uow,
            master_key=core.master_key,
            open_record=keys.open_record,
            owners=SealOwners(of_backend=host.owner_of_backend, of_table=host.owner_of_table),
        ),
        rotation=KeyRotation(uow=uow, master_key=core.master_key, clock=clock),
        health=health,
        status=StatusService(
            health=health,
            jobs=jobs,
            plugins=host.states,
            safe_mode=lambda: core.master_key.state().safe_mode,
        ),
        database=DatabaseService(
            uow=uow, maintenance=DatabaseMaintenance(core.engine), clock=clock
        ),
        https=ServerCertificateService(
            uow=uow,
            certificates=certificates,
            keys=keys,
            clock=clock,
            ids=ids,
            files=TLSFiles(boot.data_dir, configured=boot.tls_certificate),
        ),
        roles=roles,
    )


def _paused_jobs(uow: UnitOfWork) -> dict[str, set[str]]:
    paused: dict[str, set[str]] = {}
    with uow.read() as reader:
        for row in reader.jobs.all():
            if row.paused:
                paused.setdefault(row.owner, set()).add(row.id)
    return paused


class _Roles:
    """The roles with the permissions of the plugins that are up; built once per set of plugins."""

    def __init__(self, host: PluginHost) -> None:
        self._host = host
        self._seen: Contributions | None = None
        self._roles = Roles()

    def __call__(self) -> Roles:
        current = self._host.contributions
        if current is not self._seen:
            self._seen, self._roles = current, Roles(current.permissions)
        return self._roles
