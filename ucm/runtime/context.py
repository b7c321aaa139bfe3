"""What a plugin gets: the core's services behind the protocols of ``ucm.api.services``."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

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
from ucm.runtime.dispatch import Dispatcher
from ucm.runtime.registry import Plugin
from ucm.runtime.settings import SettingsRegistry
from ucm.services.plugin_issuance import PluginIssuance
from ucm.store.plugin_units import PluginUnitOfWork
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
    keys: Callable[[str], Keys]
    """The keys of the plugin with that name."""
    sealer: Callable[[str], Sealer]
    """Seals and unseals for the plugin with that name and for no other."""
    settings: SettingsRegistry
    dispatcher: Dispatcher
    public_url: Callable[[], str]
    public_http_url: Callable[[], str]

    def __call__(self, plugin: Plugin) -> PluginContext:
        """The context of a plugin that was validated."""
        manifest = plugin.manifest
        if manifest is None:
            raise RuntimeError("a context is made after the manifest was read")
        keys = self.keys(manifest.name)
        has_settings = plugin.contributions.settings is not None
        return PluginContext(
            manifest=manifest,
            settings=lambda: self.settings.snapshot(manifest.name) if has_settings else None,
            clock=self.clock,
            ids=self.ids,
            log=logging.getLogger(f"ucm.plugin.{manifest.name}"),
            uow=PluginUnitOfWork(self.uow),
            issuance=PluginIssuance(self.issuance, keys=keys),
            certificates=self.certificates,
            cas=self.cas,
            keys=keys,
            sealer=self.sealer(manifest.name),
            ask_others=partial(_ask_others, self.dispatcher, plugin),
            url_for_public=lambda path: self.public_url() + path,
            url_for_public_http=lambda path: self.public_http_url() + path,
        )


def _ask_others(
    dispatcher: Dispatcher, plugin: Plugin, hook: str, /, **arguments: object
) -> Sequence[tuple[str, Any]]:
    if not any(hasattr(module, hook) for module in plugin.contributions.hookspecs):
        raise LookupError(f"plugin {plugin.name!r} offers no hook {hook!r} (ucm_hookspecs)")
    return dispatcher.offered(hook, **arguments)
