"""Settings that administrators change at run time (``/api/v2/settings/general``)."""

from __future__ import annotations

from typing import Self

from pydantic import Field, field_validator, model_validator

from ucm.api.settings import PluginSettings, Secret

_URL_LENGTH = 2048


class GeneralSettings(PluginSettings):
    """The core's settings: names and defaults of the catalogue, bounds of their own."""

    site_name: str = Field(
        default="UCM", min_length=1, max_length=64, description="Name shown to users."
    )
    timezone: str = Field(
        default="UTC", max_length=64, description="Time zone that pages show times in."
    )
    base_url: str = Field(
        default="",
        max_length=_URL_LENGTH,
        description="https URL of this server in links; empty: UCM_PUBLIC_URL.",
    )
    protocol_base_url: str = Field(
        default="",
        max_length=_URL_LENGTH,
        description="http URL of the protocol port in certificates; empty: UCM_PUBLIC_HTTP_URL.",
    )
    session_timeout: int = Field(
        default=28_800, ge=60, le=604_800, description="Seconds of inactivity that end a session."
    )
    session_max_lifetime: int = Field(
        default=86_400,
        ge=60,
        le=2_592_000,
        description="Seconds after which a session ends in any case.",
    )
    max_login_attempts: int = Field(
        default=5, ge=1, le=100, description="Wrong passwords in a row that lock an account."
    )
    lockout_duration: int = Field(
        default=300, ge=1, le=86_400, description="Seconds that an account stays locked."
    )
    min_password_length: int = Field(
        default=8, ge=8, le=128, description="Least number of characters of a password."
    )
    max_password_length: int = Field(
        default=128, ge=8, le=1024, description="Greatest number of characters of a password."
    )
    password_require_uppercase: bool = Field(
        default=True, description="Passwords need a capital letter."
    )
    password_require_lowercase: bool = Field(
        default=True, description="Passwords need a small letter."
    )
    password_require_numbers: bool = Field(default=True, description="Passwords need a digit.")
    password_require_special: bool = Field(
        default=True, description="Passwords need a special character."
    )
    hsts_enabled: bool = Field(
        default=True, description="Send Strict-Transport-Security (RFC 6797) on the https port."
    )
    hsts_include_subdomains: bool = Field(
        default=True, description="Extend Strict-Transport-Security to subdomains."
    )
    hsts_max_age: int = Field(
        default=31_536_000, ge=0, le=63_072_000, description="Seconds that browsers remember it."
    )
    metrics_token: Secret = Field(
        default=Secret(""), description="Bearer token of /metrics; empty: /metrics does not exist."
    )
    audit_retention_days: int = Field(
        default=0, ge=0, le=36_500, description="Days that audit rows are kept; 0: for ever."
    )

    @field_validator("base_url", "protocol_base_url")
    @classmethod
    def _url(cls, value: str) -> str:
        if value and not value.startswith(("http://", "https://")):
            raise ValueError("must be an http or https URL, like https://ca.example.org")
        return value.rstrip("/")

    @model_validator(mode="after")
    def _bounds(self) -> Self:
        if self.min_password_length > self.max_password_length:
            raise ValueError("min_password_length must not exceed max_password_length")
        if self.session_timeout > self.session_max_lifetime:
            raise ValueError("session_timeout must not exceed session_max_lifetime")
        return self
