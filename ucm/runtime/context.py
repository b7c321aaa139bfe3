"""What a plugin gets: the core's services behind the protocols of ``ucm.api.services``."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

from ucm.api.services import (
    CertificateAuthorities,
    Certificates,
    Clock,
    Ids,
    Issuance,
    Keys,
    PluginContext,
    Sealer,
)
from ucm.runtime.registry import Plugin
from ucm.runtime.settings import SettingsRegistry
from ucm.store.uow import UnitOfWork


@dataclass(frozen=True, kw_only=True, slots=True)
class ContextMaker:
    """Builds each plugin's context from the core's services."""

    clock: Clock
    ids: Ids
    uow: UnitOfWork
    issuance: Issuance
    certificates: Certificates
    cas: CertificateAuthorities
    keys: Keys
    sealer: Sealer
    settings: SettingsRegistry
    public_url: Callable[[], str]
    public_http_url: Callable[[], str]

    def __call__(self, plugin: Plugin) -> PluginContext:
        """The context of a plugin that was validated."""
        manifest = plugin.manifest
        if manifest is None:
            raise RuntimeError("a context is made after the manifest was read")
        has_settings = plugin.contributions.settings is not None
        return PluginContext(
            manifest=manifest,
            settings=lambda: self.settings.snapshot(manifest.name) if has_settings else None,
            clock=self.clock,
            ids=self.ids,
            log=logging.getLogger(f"ucm.plugin.{manifest.name}"),
            uow=self.uow,
            issuance=self.issuance,
            certificates=self.certificates,
            cas=self.cas,
            keys=self.keys,
            sealer=self.sealer,
            url_for_public=lambda path: self.public_url() + path,
            url_for_public_http=lambda path: self.public_http_url() + path,
        )
