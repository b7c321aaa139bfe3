"""What must be known before the database is open: boot settings, the data directory, the session
secret.

Sources, later wins: default, ``ucm.toml`` (``/etc/ucm/ucm.toml`` or ``UCM_CONFIG``),
``/etc/ucm/ucm.env``, environment, command line.
"""

from __future__ import annotations

import difflib
import os
import stat
from collections.abc import Iterable, Mapping
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from dotenv import dotenv_values
from pydantic import AliasChoices, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from ucm.runtime.clock import SystemIds

ENV_FILE = Path("/etc/ucm/ucm.env")
TOML_FILE = Path("/etc/ucm/ucm.toml")
PREFIX = "UCM_"
DATABASE_FILE = "ucm.db"
_PLAIN_NAMES = ("SECRET_KEY", "KEY_ENCRYPTION_KEY", "FLASK_ENV")
_OTHER_NAMES = frozenset({"UCM_CONFIG"})


class BootError(Exception):
    """UCM cannot start as configured. ``str`` says what is wrong, ``hint`` what to do."""

    def __init__(self, detail: str, *, hint: str = "") -> None:
        super().__init__(detail)
        self.detail = detail
        self.hint = hint


def nearest(name: str, *, known: Iterable[str]) -> str:
    """`` Did you mean 'x'?`` with the closest known name, or nothing."""
    close = difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.6)
    return f" Did you mean {close[0]!r}?" if close else ""


class BootSettings(BaseSettings):
    """Settings that are fixed for the life of the processes. Every field is also ``UCM_<NAME>``."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_ignore_empty=True,
        extra="forbid",
        frozen=True,
        populate_by_name=True,
        validate_default=False,
        hide_input_in_errors=True,
    )

    data_dir: Path = Field(
        default=Path("ucm-data"), description="Directory of all state, mode 0700."
    )
    host: str = Field(default="127.0.0.1", description="Address that both ports listen on.")
    https_port: int = Field(
        default=8443, ge=0, le=65535, description="Port of the API and the user interface."
    )
    http_port: int = Field(
        default=8080,
        ge=0,
        le=65535,
        description="Plain-http port for protocols that are fetched without TLS; 0 is off.",
    )
    workers: int = Field(default=2, ge=1, le=64, description="Web processes.")
    threads: int = Field(default=8, ge=1, le=64, description="Request threads of each web process.")
    database_url: SecretStr | None = Field(
        default=None,
        description="SQLAlchemy URL, for example postgresql+psycopg://ucm@db/ucm; "
        "default: SQLite in the data directory.",
    )
    plugins: str = Field(
        default="default",
        description="Plugins to enable: names, 'default' for the built-in set, '-x' to leave "
        "one out, "
        "'x!' to refuse to start without it.",
    )
    strict_plugins: bool = Field(default=False, description="Every plugin failure stops the start.")
    admin_password: SecretStr | None = Field(
        default=None,
        description="Password of the first administrator; default: random, printed once.",
    )
    public_url: str = Field(
        default="", description="https URL under which clients reach this server."
    )
    public_http_url: str = Field(
        default="", description="http URL under which clients reach the protocol port."
    )
    trusted_proxies: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        description="Addresses or CIDRs whose forwarded headers are believed, comma-separated.",
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        default="INFO", description="Least severity that is logged."
    )
    tls_certificate: Path | None = Field(
        default=None,
        description="PEM chain of the server; default: self-made in the data directory.",
    )
    tls_private_key: Path | None = Field(
        default=None, description="PEM key of the server's certificate."
    )
    master_key_file: Path = Field(
        default=Path("/etc/ucm/master.key"),
        description="Master key file that is used when it exists; else KEY_ENCRYPTION_KEY, "
        "else master.key in the data directory.",
    )
    secret_key: SecretStr | None = Field(
        default=None,
        validation_alias=AliasChoices("secret_key", "UCM_SECRET_KEY", "SECRET_KEY"),
        description="Secret behind CSRF tokens; default: generated into the data directory.",
    )
    key_encryption_key: SecretStr | None = Field(
        default=None,
        validation_alias=AliasChoices(
            "key_encryption_key", "UCM_KEY_ENCRYPTION_KEY", "KEY_ENCRYPTION_KEY"
        ),
        description="Master key that seals private keys, when no master key file exists.",
    )
    flask_env: Literal["production", "development"] = Field(
        default="production",
        validation_alias=AliasChoices("flask_env", "UCM_FLASK_ENV", "FLASK_ENV"),
        description="Accepted for compatibility; has no effect.",
    )

    @field_validator("trusted_proxies", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @field_validator("trusted_proxies")
    @classmethod
    def _networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for text in value:
            try:
                ip_network(text, strict=False)
            except ValueError:
                raise ValueError(
                    f"{text!r} is no address or CIDR, like 10.0.0.0/8 or ::1"
                ) from None
        return value

    @field_validator("log_level", mode="before")
    @classmethod
    def _upper(cls, value: object) -> object:
        return value.upper() if isinstance(value, str) else value

    @field_validator("public_url", "public_http_url")
    @classmethod
    def _base_url(cls, value: str) -> str:
        if not value:
            return value
        parts = urlsplit(value)
        if (
            parts.scheme not in ("http", "https")
            or not parts.hostname
            or parts.query
            or parts.fragment
        ):
            raise ValueError(f"{value!r} is no base URL, like https://ca.example.org")
        return value.rstrip("/")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Command line, environment, ucm.env, ucm.toml, in this order of precedence."""
        toml = Path(os.environ.get("UCM_CONFIG") or TOML_FILE)
        return (
            init_settings,
            env_settings,
            _DotEnv(dotenv_settings),
            TomlConfigSettingsSource(settings_cls, toml),
        )

    @classmethod
    def load(cls, *, env_file: Path = ENV_FILE, **overrides: Any) -> Self:
        """The settings from all sources; ``overrides`` that are ``None`` are ignored.

        Raises ``BootError`` that names the variable and, for an unknown one, the nearest known
        name.
        """
        _refuse_unknown(os.environ, where="the environment")
        if env_file.is_file():
            _refuse_unknown(dotenv_values(env_file), where=str(env_file))
        given = {name: value for name, value in overrides.items() if value is not None}
        given["_env_file"] = env_file if env_file.is_file() else None
        try:
            return cls(**given)
        except ValidationError as error:
            problems = "; ".join(_sentence(item) for item in error.errors(include_input=False))
            raise BootError(
                f"the configuration is wrong: {problems}",
                hint="ucm doctor lists every setting that is given, with its source.",
            ) from None

    @property
    def database(self) -> str:
        """The SQLAlchemy URL in force. May hold a password: never log it."""
        if self.database_url is not None:
            return self.database_url.get_secret_value()
        return f"sqlite:///{self.data_dir.absolute() / DATABASE_FILE}"

    def public_base(self) -> str:
        """https URL of this server without a trailing slash."""
        return self.public_url or f"https://{self._reachable()}:{self.https_port}"

    def public_http_base(self) -> str:
        """URL of the plain-http port without a trailing slash; of the https port when it is off."""
        if self.public_http_url or not self.http_port:
            return self.public_http_url or self.public_base()
        return f"http://{self._reachable()}:{self.http_port}"

    def _reachable(self) -> str:
        if self.host in ("", "0.0.0.0", "::"):  # noqa: S104 compared, not bound
            return "localhost"
        return f"[{self.host}]" if ":" in self.host else self.host


class _DotEnv(PydanticBaseSettingsSource):
    """``ucm.env`` may serve other programs too: of it, only what is ours is taken."""

    def __init__(self, inner: PydanticBaseSettingsSource) -> None:
        super().__init__(inner.settings_cls)
        self._inner = inner

    def get_field_value(self, field: Any, field_name: str) -> tuple[Any, str, bool]:
        return self._inner.get_field_value(field, field_name)

    def __call__(self) -> dict[str, Any]:
        names = set(known_variables()) | set(self.settings_cls.model_fields)
        lower = {name.lower() for name in names}
        return {key: value for key, value in self._inner().items() if key.lower() in lower}


def known_variables() -> dict[str, str]:
    """Every boot variable and its description."""
    known: dict[str, str] = {}
    for name, field in BootSettings.model_fields.items():
        known[f"{PREFIX}{name.upper()}"] = field.description or ""
    for name in _PLAIN_NAMES:
        known[name] = BootSettings.model_fields[name.lower()].description or ""
    return known


def _refuse_unknown(variables: Mapping[str, object], *, where: str) -> None:
    # UCM_<PLUGIN>__<FIELD> belongs to a settings class and is checked by the settings registry.
    known = known_variables()
    for name in sorted(variables):
        if not name.startswith(PREFIX) or "__" in name:
            continue
        if name not in known and name not in _OTHER_NAMES:
            raise BootError(
                f"{where} sets {name}, which UCM does not know.{nearest(name, known=known)}",
                hint="Correct or remove it: a setting that is silently ignored is a trap.",
            )


def _sentence(error: Any) -> str:
    name = ".".join(str(part) for part in error["loc"]) or "settings"
    variable = name.upper() if name.upper() in _PLAIN_NAMES else f"{PREFIX}{name.upper()}"
    return f"{variable}: {error['msg'].removeprefix('Value error, ')}"


def prepare_data_dir(directory: Path) -> Path:
    """The data directory, made with mode 0700 when missing.

    Raises ``BootError`` when it is no directory, belongs to somebody else or is open to others.
    """
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = directory.stat()
    except OSError as error:
        raise BootError(
            f"the data directory {directory} cannot be used: {error.strerror}",
            hint="Give another one with --data-dir or UCM_DATA_DIR.",
        ) from None
    if status.st_uid != os.geteuid():
        raise BootError(
            f"the data directory {directory} belongs to user id {status.st_uid}, not to this "
            "process",
            hint=f"chown it to user id {os.geteuid()}, or run UCM as its owner.",
        )
    mode = stat.S_IMODE(status.st_mode)
    if mode & 0o077:
        raise BootError(
            f"the data directory {directory} has mode {mode:04o}: others may read private data",
            hint=f"chmod 700 {directory}",
        )
    return directory


def session_secret(boot: BootSettings) -> bytes:
    """The secret behind CSRF tokens and cookies: configured, or kept in ``<data_dir>/secret.key``
    (0600).
    """
    if boot.secret_key is not None:
        given = boot.secret_key.get_secret_value()
        if len(given) < 16:
            raise BootError(
                f"SECRET_KEY has {len(given)} characters, fewer than 16: it could be guessed",
                hint="Set 64 random characters, or leave it out to have one generated.",
            )
        return given.encode()
    path = boot.data_dir / "secret.key"
    candidate = path.with_name(f".secret.{os.getpid()}.{SystemIds().token(6)}")
    if not path.exists():
        with os.fdopen(
            os.open(candidate, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w"
        ) as file:
            file.write(SystemIds().token(48))
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(candidate, path)  # whole or not at all, and never over another process's file
        except FileExistsError:
            pass
        finally:
            candidate.unlink()
    text = path.read_text().strip()
    if len(text) < 32:
        raise BootError(
            f"{path} holds fewer than 32 characters",
            hint="Delete it to have a new one generated (CSRF tokens in use become invalid).",
        )
    return text.encode()
