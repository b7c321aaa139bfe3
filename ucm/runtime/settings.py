"""Typed settings of the core and the plugins: default < database < environment.

Snapshots are immutable and cheap: a process looks at the database's revision number at most once a
second and reads the rows only when it moved.
"""

from __future__ import annotations

import json
import logging
import os
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar, get_args, get_origin

from pydantic import SecretStr, ValidationError
from pydantic.fields import FieldInfo
from sqlalchemy.exc import SQLAlchemyError

from ucm.api.actor import Actor
from ucm.api.errors import (
    Busy,
    FieldError,
    Invalid,
    KeyUnavailable,
    NotFound,
    StorageFailed,
)
from ucm.api.events import SettingsChanged
from ucm.api.services import Clock, Sealer, Target
from ucm.api.settings import PluginSettings
from ucm.domain.settings import GeneralSettings
from ucm.runtime.boot import PREFIX, BootError, nearest
from ucm.runtime.registry import PluginRefused
from ucm.store.settings import SettingRepository, SettingRow
from ucm.store.uow import UnitOfWork

log = logging.getLogger("ucm.settings")

CORE = "general"
REFRESH_SECONDS = 1.0

Model = TypeVar("Model", bound=PluginSettings)


@dataclass(frozen=True, kw_only=True, slots=True)
class SettingField:
    """One setting as operators see it. A secret has no value here, only ``is_set``."""

    key: str
    name: str
    description: str
    value: Any
    default: Any
    source: str
    """``default``, ``database`` or ``environment``."""
    locked: bool
    secret: bool
    is_set: bool


@dataclass(slots=True)
class _Owner:
    name: str
    model: type[PluginSettings]
    environment: dict[str, Any]
    snapshot: PluginSettings
    sources: dict[str, str] = field(default_factory=dict)
    revision: int = -1


class SettingsRegistry:
    """Every owner's settings class with its current snapshot. Thread-safe."""

    def __init__(self, *, clock: Clock, environ: Mapping[str, str] | None = None) -> None:
        self._clock = clock
        self._environ = dict(os.environ if environ is None else environ)
        self._owners: dict[str, _Owner] = {}
        self._uow: UnitOfWork | None = None
        self._sealer: Sealer | None = None
        self._lock = threading.Lock()
        self._revision = -1
        self._checked_at = float("-inf")

    def declare(self, owner: str, model: type[PluginSettings]) -> None:
        """Add an owner's class. Raises ``PluginRefused`` for a class that breaks the rules of
        ``PluginSettings``, ``BootError`` for a wrong value in the environment.
        """
        _check_model(model)
        environment = self._from_environment(owner, model)
        try:
            snapshot = model(**environment)
        except ValidationError as error:
            raise BootError(
                f"the environment is wrong: {_sentences(error, owner=owner)}",
                hint="docs/settings.md lists every setting with its bounds.",
            ) from None
        self._owners[owner] = _Owner(owner, model, environment, snapshot)

    def attach(self, uow: UnitOfWork, *, sealer: Sealer) -> None:
        """From now on, database values count. Raises ``BootError`` for a wrong one of the core."""
        self._uow, self._sealer = uow, sealer
        try:
            self.load(CORE)
        except PluginRefused as error:
            raise BootError(str(error), hint="Correct the row in core_setting.") from None

    def load(self, owner: str) -> None:
        """Read an owner's database values now. Raises ``PluginRefused`` when they do not fit."""
        entry = self._entry(owner)
        with self._database().read() as reader:
            revision = reader.settings.revision()
            self._refresh(entry, rows=reader.settings.all(), revision=revision)

    def snapshot(self, owner: str) -> PluginSettings:
        """The current values. A row that went wrong meanwhile leaves the last good snapshot."""
        entry = self._entry(owner)
        if self._uow is not None:
            try:
                self._check_revision()
                if entry.revision != self._revision:
                    self.load(owner)
            except PluginRefused as error:
                log.warning("%s; the last good values stay in force", error)
                entry.revision = self._revision
            except (StorageFailed, Busy, SQLAlchemyError) as error:
                log.warning("settings cannot be read (%s); the last values stay in force", error)
        return entry.snapshot

    def general(self) -> GeneralSettings:
        """The core's settings."""
        current = self.snapshot(CORE)
        if not isinstance(current, GeneralSettings):
            raise TypeError("the core's settings class was not declared")
        return current

    def owners(self) -> tuple[str, ...]:
        """Owners that have settings, the core first."""
        return tuple(self._owners)

    def model(self, owner: str) -> type[PluginSettings]:
        """An owner's class. Raises ``NotFound``."""
        return self._entry(owner).model

    def describe(self, owner: str) -> list[SettingField]:
        """Every field of an owner with value and source."""
        current = self.snapshot(owner)
        entry = self._entry(owner)
        return [
            _described(name, info, entry=entry, current=current)
            for name, info in entry.model.model_fields.items()
        ]

    def update(self, owner: str, values: Mapping[str, Any], *, actor: Actor) -> tuple[str, ...]:
        """Write values (``None`` goes back to the default), audited, and return the keys that
        changed.

        Raises ``Invalid`` with a pointer per wrong field; nothing is written then.
        """
        entry = self._entry(owner)
        self._refuse_unknown(entry, values)
        with self._database().begin(actor) as tx:
            rows = tx.settings.all()
            merged = {**self._stored(entry, rows), **values}
            kept = {name: value for name, value in merged.items() if value is not None}
            try:
                fresh = entry.model(**{**kept, **entry.environment})
            except ValidationError as error:
                raise _invalid(error) from None
            changed: list[str] = []
            for name, value in values.items():
                key = f"{owner}.{name}"
                if value is None:
                    if key in rows:
                        tx.settings.delete(key)
                        changed.append(key)
                elif self._write(tx.settings, key, getattr(fresh, name), row=rows.get(key)):
                    changed.append(key)
            if changed:
                tx.audit("settings_update", target=Target("settings", owner), keys=changed)
                tx.emit(SettingsChanged(keys=tuple(changed)))
        self._checked_at = float("-inf")
        return tuple(changed)

    def check_environment(self, *, installed: Iterable[str]) -> None:
        """Raises ``BootError`` for ``UCM_<OWNER>__<FIELD>`` of an unknown owner or field."""
        known = {*self._owners, *installed}
        for variable in sorted(self._environ):
            if not variable.startswith(PREFIX) or "__" not in variable:
                continue
            owner, _, name = variable[len(PREFIX) :].lower().partition("__")
            if owner not in known:
                raise BootError(
                    f"the environment sets {variable}, but there is no plugin {owner!r}."
                    f"{nearest(owner, known=known)}",
                    hint="Correct or remove it.",
                )
            entry = self._owners.get(owner)
            if entry is not None and name not in entry.model.model_fields:
                raise BootError(
                    f"the environment sets {variable}, but {owner!r} has no setting {name!r}."
                    f"{nearest(name, known=entry.model.model_fields)}",
                    hint="docs/settings.md lists every setting.",
                )

    # --- inside --------------------------------------------------------------------------------

    def _entry(self, owner: str) -> _Owner:
        try:
            return self._owners[owner]
        except KeyError:
            raise NotFound(
                f"{owner!r} has no settings.{nearest(owner, known=self._owners)}"
            ) from None

    def _database(self) -> UnitOfWork:
        if self._uow is None:
            raise RuntimeError("settings are used before the database is attached")
        return self._uow

    def _check_revision(self) -> None:
        now = self._clock.monotonic()
        if now - self._checked_at < REFRESH_SECONDS:
            return
        with self._lock:
            if now - self._checked_at < REFRESH_SECONDS:
                return
            self._checked_at = now  # also when it fails: one attempt a second is enough
            with self._database().read() as reader:
                self._revision = reader.settings.revision()

    def _refresh(self, entry: _Owner, *, rows: Mapping[str, SettingRow], revision: int) -> None:
        stored = self._stored(entry, rows)
        try:
            snapshot = entry.model(**{**stored, **entry.environment})
        except ValidationError as error:
            raise PluginRefused(
                f"a value in the database is wrong: {_sentences(error, owner=entry.name)}"
            ) from None
        entry.sources = {
            **dict.fromkeys(stored, "database"),
            **dict.fromkeys(entry.environment, "environment"),
        }
        entry.snapshot, entry.revision = snapshot, revision
        self._revision = max(self._revision, revision)

    def _stored(self, entry: _Owner, rows: Mapping[str, SettingRow]) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for key, row in rows.items():
            owner, _, name = key.partition(".")
            if owner != entry.name:
                continue
            if name not in entry.model.model_fields:
                log.warning("setting %s is not known to this version and is ignored", key)
                continue
            if row.sealed is None:
                values[name] = row.value
            elif name not in entry.environment:
                try:
                    values[name] = json.loads(self._seal_box().unseal(row.sealed))
                except KeyUnavailable:
                    if entry.name != CORE:
                        raise
                    log.warning("setting %s is sealed and stays unset in safe mode", key)
        return values

    def _seal_box(self) -> Sealer:
        if self._sealer is None:
            raise RuntimeError("settings are used before the sealer is attached")
        return self._sealer

    def _write(
        self, settings: SettingRepository, key: str, value: Any, *, row: SettingRow | None
    ) -> bool:
        if isinstance(value, SecretStr):
            secret = json.dumps(value.get_secret_value()).encode()
            settings.set(key, sealed=self._seal_box().seal(secret))
            return True
        plain = json.loads(json.dumps(value, default=_plain))
        if row is not None and row.value == plain:
            return False
        settings.set(key, value=plain)
        return True

    def _refuse_unknown(self, entry: _Owner, values: Mapping[str, Any]) -> None:
        errors: list[FieldError] = []
        for name in values:
            if name not in entry.model.model_fields:
                hint = nearest(name, known=entry.model.model_fields)
                errors.append(FieldError(f"/{name}", "unknown", f"No such setting.{hint}"))
            elif name in entry.environment:
                variable = f"{PREFIX}{entry.name}__{name}".upper()
                errors.append(
                    FieldError(
                        f"/{name}",
                        "locked",
                        f"The environment sets this ({variable}), so it cannot be changed here.",
                    )
                )
        if errors:
            raise Invalid("; ".join(error.detail for error in errors), fields=errors)

    def _from_environment(self, owner: str, model: type[PluginSettings]) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for name, info in model.model_fields.items():
            text = self._environ.get(f"{PREFIX}{owner}__{name}".upper())
            if text is not None:
                values[name] = _parsed(text, info)
        return values


def _parsed(text: str, info: FieldInfo) -> Any:
    """Lists are written as JSON or separated by commas; all else is pydantic's to read."""
    if get_origin(info.annotation) in (list, tuple, set, frozenset):
        if text.lstrip().startswith("["):
            try:
                return json.loads(text)
            except ValueError:
                return text
        return [part.strip() for part in text.split(",") if part.strip()]
    return text


def _plain(value: object) -> object:
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    return str(value)


def _is_secret(info: FieldInfo) -> bool:
    return info.annotation is SecretStr or SecretStr in get_args(info.annotation)


def _described(
    name: str, info: FieldInfo, *, entry: _Owner, current: PluginSettings
) -> SettingField:
    value = getattr(current, name)
    secret = _is_secret(info)
    default = info.get_default(call_default_factory=True)
    return SettingField(
        key=f"{entry.name}.{name}",
        name=name,
        description=info.description or "",
        value=None if secret else value,
        default=None if secret else default,
        source=entry.sources.get(name, "environment" if name in entry.environment else "default"),
        locked=name in entry.environment,
        secret=secret,
        is_set=bool(value.get_secret_value())
        if isinstance(value, SecretStr)
        else value is not None,
    )


def _check_model(model: type[PluginSettings]) -> None:
    for name, info in model.model_fields.items():
        if info.is_required():
            raise PluginRefused(f"setting {name!r} of {model.__name__} needs a default")
        if not info.description:
            raise PluginRefused(f"setting {name!r} of {model.__name__} needs a description")
    if not model.model_config.get("frozen") or model.model_config.get("extra") != "forbid":
        raise PluginRefused(f"{model.__name__} must stay frozen and refuse unknown keys")


def _sentences(error: ValidationError, *, owner: str) -> str:
    parts = []
    for item in error.errors(include_input=False, include_url=False):
        name = ".".join([owner, *(str(part) for part in item["loc"])])
        parts.append(f"{name}: {item['msg'].removeprefix('Value error, ')}")
    return "; ".join(parts)


def _invalid(error: ValidationError) -> Invalid:
    fields = [
        FieldError(
            "".join(f"/{part}" for part in item["loc"]) or "",
            item["type"].replace("_", "-"),
            item["msg"].removeprefix("Value error, "),
        )
        for item in error.errors(include_input=False, include_url=False)
    ]
    return Invalid("; ".join(item.detail for item in fields), fields=fields)
