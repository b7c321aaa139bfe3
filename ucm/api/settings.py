"""Typed settings: one pydantic model per owner."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, SecretStr

Secret = SecretStr
"""A field of this type is sealed in the database and never returned by the API."""


class PluginSettings(BaseModel):
    """Base of a plugin's settings class: every field has a default, bounds and a description.

    Sources, later wins: default, database (``core_setting``, key ``<plugin>.<field>``), environment
    (``UCM_<PLUGIN>__<FIELD>``). Snapshots are immutable; unknown keys and wrong values are refused.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)
