"""What a plugin gets: the core's services behind the protocols of ``ucm.api.services``."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from ucm.api.services import Clock, Ids, Issuance, Keys, PluginContext, Sealer
from ucm.api.views import CaView, CertificateView
from ucm.runtime.registry import Plugin
from ucm.runtime.settings import SettingsRegistry
from ucm.store.uow import UnitOfWork

_MAX_CHAIN = 16


class StoredCertificates:
    """``ucm.api.services.Certificates`` from the store."""

    def __init__(self, uow: UnitOfWork) -> None:
        self._uow = uow

    def get(self, certificate_id: int) -> CertificateView:
        """Raises ``NotFound``."""
        with self._uow.read() as reader:
            return reader.certificates.get(certificate_id)

    def find(self, ca_id: int, serial: int) -> CertificateView | None:
        """By issuer and serial."""
        with self._uow.read() as reader:
            return reader.certificates.find(ca_id, serial)

    def chain(self, certificate_id: int) -> Sequence[bytes]:
        """DER from the certificate to its root, as far as UCM knows it. Raises ``NotFound``."""
        with self._uow.read() as reader:
            leaf = reader.certificates.get(certificate_id)
            chain = [leaf.der]
            own = reader.cas.by_certificate(certificate_id)
            ca_id = own.parent_id if own else leaf.ca_id
            for _ in range(_MAX_CHAIN):  # a loop in foreign data must not hold this thread
                if ca_id is None:
                    break
                ca = reader.cas.get(ca_id)
                if ca.der in chain:
                    break
                chain.append(ca.der)
                ca_id = ca.parent_id
        return tuple(chain)


class StoredAuthorities:
    """``ucm.api.services.CertificateAuthorities`` from the store."""

    def __init__(self, uow: UnitOfWork) -> None:
        self._uow = uow

    def get(self, ca_id: int) -> CaView:
        """Raises ``NotFound``."""
        with self._uow.read() as reader:
            return reader.cas.get(ca_id)

    def by_refid(self, refid: str) -> CaView:
        """Raises ``NotFound``."""
        with self._uow.read() as reader:
            return reader.cas.by_refid(refid)

    def all(self) -> Iterable[CaView]:
        """Every authority."""
        with self._uow.read() as reader:
            return reader.cas.all()


@dataclass(frozen=True, kw_only=True, slots=True)
class ContextMaker:
    """Builds each plugin's context from the core's services."""

    clock: Clock
    ids: Ids
    uow: UnitOfWork
    issuance: Issuance
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
            certificates=StoredCertificates(self.uow),
            cas=StoredAuthorities(self.uow),
            keys=self.keys,
            sealer=self.sealer,
            url_for_public=lambda path: self.public_url() + path,
            url_for_public_http=lambda path: self.public_http_url() + path,
        )
