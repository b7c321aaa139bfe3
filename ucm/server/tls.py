"""The server's certificate and the client CAs it accepts, replaceable while connections are
open.
"""

from __future__ import annotations

import logging
import os
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from ucm.server.config import ServerConfig

log = logging.getLogger("ucm.server")


@dataclass(frozen=True, kw_only=True, slots=True)
class TLSMaterial:
    """A PEM chain (leaf first), its unencrypted PEM key, and DER certificates of accepted client
    CAs.

    ``version`` differs whenever any of them does.
    """

    certificate_chain_pem: bytes
    private_key_pem: bytes = field(repr=False)
    client_ca_ders: tuple[bytes, ...]
    version: int


class TLSMaterialSource(Protocol):
    """Where the material comes from."""

    def current(self) -> TLSMaterial:
        """The newest usable material. Called on the event loop for every connection: takes
        microseconds when nothing changed, and after the first call raises nothing.
        """
        ...


class TLSUnusable(Exception):
    """The certificate, the key or a client CA cannot be used; says which and why."""


class FileTLSMaterialSource:
    """Reads certificate and key of the configuration, and ``<data_dir>/tls/client-ca.pem`` when it
    exists.

    A change of a file is seen at the next connection. While files are missing or unreadable, for
    example half-way through a replacement, the last good material stays. The first ``current``
    raises TLSUnusable.
    """

    def __init__(self, config: ServerConfig) -> None:
        self._certificate = config.certificate_path
        self._key = config.private_key_path
        self._client_ca = config.data_dir / "tls" / "client-ca.pem"
        self._stamp: tuple[object, ...] = ()
        self._material: TLSMaterial | None = None

    def current(self) -> TLSMaterial:
        """See TLSMaterialSource."""
        stamp = tuple(_stamp(path) for path in (self._certificate, self._key, self._client_ca))
        if self._material is not None and stamp == self._stamp:
            return self._material
        self._stamp = stamp
        version = 1 if self._material is None else self._material.version + 1
        try:
            self._material = self._read(version=version)
        except TLSUnusable as unusable:
            if self._material is None:
                raise
            log.error("%s; the previous TLS certificate stays in use", unusable)  # noqa: TRY400
        return self._material

    def _read(self, *, version: int) -> TLSMaterial:
        try:
            chain = self._certificate.read_bytes()
            key = self._key.read_bytes()
            anchors = self._client_ca.read_bytes() if self._client_ca.exists() else b""
        except OSError as error:
            raise TLSUnusable(f"cannot read {error.filename}: {error.strerror}") from None
        try:
            ders = tuple(
                certificate.public_bytes(Encoding.DER)
                for certificate in (x509.load_pem_x509_certificates(anchors) if anchors else ())
            )
        except ValueError:
            raise TLSUnusable(f"{self._client_ca} is not a file of PEM certificates") from None
        return TLSMaterial(
            certificate_chain_pem=chain, private_key_pem=key, client_ca_ders=ders, version=version
        )


class TLSContexts:
    """The context that the listener holds, and the newest one that every handshake is switched to.

    The listener's context lives as long as the server and is made before the fork, so all workers
    share the keys of session tickets; its ``sni_callback``, which OpenSSL calls with or without a
    server name, puts the newest context in place. A client certificate that does not chain to an
    accepted CA fails the handshake; which CA may do what is the application's decision. Raises
    TLSUnusable.
    """

    def __init__(self, source: TLSMaterialSource, *, request_client_certificate: bool) -> None:
        self._source = source
        self._request = request_client_certificate
        self.authorities: tuple[bytes, ...] = ()
        """DER of further client CAs; set it anew when they change."""
        self._extra: tuple[bytes, ...] = ()
        material = source.current()
        self._version = material.version
        self._newest = _context(material, extra=())
        self.listener = _context(material, extra=())
        self.listener.sni_callback = self._hello
        self._ask(material)

    def refresh(self) -> None:
        """Take newer material when there is any; keep the old one, and log, when the new is
        unusable.
        """
        material = self._source.current()
        extra = self.authorities
        if material.version == self._version and (extra is self._extra or extra == self._extra):
            return
        self._version, self._extra = material.version, extra
        try:
            self._newest = _context(material, extra=extra)
        except TLSUnusable as unusable:
            log.error("%s; the previous TLS certificate stays in use", unusable)  # noqa: TRY400
            return
        self._ask(material)

    def _ask(self, material: TLSMaterial) -> None:
        # The switch of contexts does not carry the mode over, so the listener's own must be right
        # before a handshake begins. Without any client CA no certificate could pass: then none is
        # asked for.
        wanted = self._request and bool(material.client_ca_ders or self._extra)
        self.listener.verify_mode = ssl.CERT_OPTIONAL if wanted else ssl.CERT_NONE

    def _hello(
        self, tls: ssl.SSLObject | ssl.SSLSocket, _name: str | None, _context: ssl.SSLContext
    ) -> None:
        self.refresh()
        tls.context = self._newest


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_ino, stat.st_size


def _context(material: TLSMaterial, *, extra: tuple[bytes, ...]) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(["http/1.1"])
    # An intermediate CA in the set is an anchor of its own: its root may be elsewhere.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    _load_chain(context, material)
    for der in (*material.client_ca_ders, *extra):
        try:
            context.load_verify_locations(cadata=der)
        except ssl.SSLError as error:
            raise TLSUnusable(
                f"a client CA certificate is unusable for TLS ({error.reason})"
            ) from None
    return context


def _load_chain(context: ssl.SSLContext, material: TLSMaterial) -> None:
    # `ssl` reads paths only; an anonymous memory file keeps the key off the disk.
    descriptor = os.memfd_create("tls", os.MFD_CLOEXEC)
    try:
        with os.fdopen(descriptor, "wb", closefd=False) as memory:
            memory.write(material.private_key_pem + b"\n" + material.certificate_chain_pem)
        context.load_cert_chain(f"/proc/self/fd/{descriptor}", password=_refuse_password)
    except (ssl.SSLError, OSError) as error:
        reason = getattr(error, "reason", None) or "not PEM"
        raise TLSUnusable(
            f"the TLS certificate and key are unusable ({reason}): the certificate file holds a "
            "PEM chain, "
            "leaf first, the key file the leaf's unencrypted PEM key"
        ) from None
    finally:
        os.close(descriptor)


def _refuse_password() -> str:
    raise TLSUnusable(
        "the TLS key is encrypted; store it without a password, readable by the server only"
    )
