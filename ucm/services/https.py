"""The TLS certificate that this server shows, and how it gets another one."""

from __future__ import annotations

from datetime import datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import load_der_private_key

from ucm.api.actor import Actor
from ucm.api.errors import Conflict, Invalid, NotFound, StorageFailed
from ucm.api.names import parse_general_name
from ucm.api.services import Clock, Ids, Target
from ucm.api.views import CertificateStatus, CertificateView
from ucm.api.x509 import pem, serial_text
from ucm.issuance.builder import server_certificate
from ucm.services.cas import exported_key
from ucm.services.certificates import CertificateService
from ucm.services.exports import private_key_pem
from ucm.services.keys import KeyService
from ucm.services.tls_files import TLSFiles
from ucm.store.uow import UnitOfWork

_USABLE = frozenset({CertificateStatus.VALID, CertificateStatus.EXPIRING})
_SERVED_KEYS = (rsa.RSAPrivateKey, ec.EllipticCurvePrivateKey, ed25519.Ed25519PrivateKey)


class ServerCertificateService:
    """Reads and replaces the certificate of the https port.

    The server looks at the files at every new connection, so that a new pair needs no restart. Of
    several machines that share a database each has its own certificate: a call reaches one.
    """

    def __init__(
        self,
        *,
        uow: UnitOfWork,
        certificates: CertificateService,
        keys: KeyService,
        clock: Clock,
        ids: Ids,
        files: TLSFiles,
    ) -> None:
        self._uow = uow
        self._certificates = certificates
        self._keys = keys
        self._clock = clock
        self._ids = ids
        self._files = files

    @property
    def path(self) -> Path:
        """The certificate file in use."""
        return self._files.configured or self._files.certificate

    @property
    def replaceable(self) -> bool:
        """Whether it may be replaced from here."""
        return self._files.configured is None

    def now(self) -> datetime:
        """The time by which days are counted."""
        return self._clock.now()

    def current(self) -> x509.Certificate:
        """The leaf of the file in use. Raises ``NotFound`` when there is none that can be read."""
        try:
            return x509.load_pem_x509_certificate(self.path.read_bytes())
        except OSError as error:
            reason = error.strerror or "it cannot be read"
        except ValueError:
            reason = "it holds no PEM certificate"
        raise NotFound(
            f"The server's certificate file {self.path} is of no use: {reason}.",
            hint="ucm serve makes it at its start; a configured file must be put there.",
        )

    def regenerate(self, *, common_name: str, validity_days: int, actor: Actor) -> x509.Certificate:
        """Make a new self-signed certificate. Raises ``Invalid``, and ``Conflict`` when the
        operator configured a certificate."""
        self._check_replaceable()
        names = [_checked_name(common_name), "localhost", "127.0.0.1", "::1"]
        chain_pem, key_pem = server_certificate(
            list(dict.fromkeys(names)),
            clock=self._clock,
            ids=self._ids,
            validity=timedelta(days=validity_days),
        )
        made = x509.load_pem_x509_certificate(chain_pem)
        self._put(
            chain_pem,
            key_pem,
            action="https_regenerate",
            target=Target("https", None, names[0]),
            serial=serial_text(made.serial_number),
            actor=actor,
        )
        return made

    def apply(self, certificate_id: int, *, actor: Actor) -> x509.Certificate:
        """Show a certificate that UCM keeps with its key. The key leaves the key store: it lies in
        the data directory, readable by the server's account only.

        Raises ``NotFound``, ``Conflict`` when a server cannot use it or its key, or when the
        operator configured a certificate.
        """
        self._check_replaceable()
        view = self._certificates.get(certificate_id)
        certificate = x509.load_der_x509_certificate(view.der)
        self._check_usable(view, certificate)
        assert view.key is not None  # noqa: S101 checked above
        pkcs8 = exported_key(self._keys, view.key)
        if not isinstance(
            load_der_private_key(pkcs8, None, unsafe_skip_rsa_key_validation=True), _SERVED_KEYS
        ):
            raise _unusable(view, f"TLS clients do not know its kind of key ({view.key_type}).")
        self._put(
            pem(self._certificates.chain(view.id)).encode(),
            private_key_pem(pkcs8, password=None),
            action="https_apply",
            target=Target("certificate", view.id, view.common_name or view.subject),
            serial=view.serial,
            actor=actor,
        )
        return certificate

    def _put(
        self,
        chain_pem: bytes,
        key_pem: bytes,
        *,
        action: str,
        target: Target,
        serial: str,
        actor: Actor,
    ) -> None:
        try:
            with (
                self._files.replacing(chain_pem=chain_pem, key_pem=key_pem),
                self._uow.begin(actor) as tx,
            ):
                tx.audit(action, target=target, serial=serial)
        except OSError as error:
            raise StorageFailed(
                f"The server's certificate cannot be written: {error.strerror}.",
                hint=f"Look at {self._files.key.parent} and the space on its disk.",
            ) from error

    def _check_replaceable(self) -> None:
        if self._files.configured is not None:
            raise Conflict(
                f"The server's certificate is configured (UCM_TLS_CERTIFICATE: {self.path}), and "
                "what an operator put there is not replaced from here.",
                hint="Replace the file, which is read again at the next connection; or remove "
                "UCM_TLS_CERTIFICATE and UCM_TLS_PRIVATE_KEY and restart.",
            )

    def _check_usable(self, view: CertificateView, certificate: x509.Certificate) -> None:
        status = view.status(self._clock.now())
        if status not in _USABLE:
            raise _unusable(view, f"It is {status.value.replace('_', ' ')}.")
        if view.not_before > self._clock.now():
            raise _unusable(view, "It is not valid yet.")
        if view.is_ca:
            raise _unusable(view, "It belongs to an authority, whose key must sign nothing else.")
        if view.key is None:
            raise _unusable(
                view, "UCM does not keep its key.", hint="Issue one whose key UCM makes."
            )
        if not (view.san_dns or view.san_ip):
            raise _unusable(
                view, "It names no host: clients look at its SAN only (RFC 9525 section 6)."
            )
        try:
            usages = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        except x509.ExtensionNotFound:
            return
        allowed = {
            x509.oid.ExtendedKeyUsageOID.SERVER_AUTH,
            x509.oid.ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE,
        }
        if allowed.isdisjoint(usages):
            raise _unusable(
                view,
                "Its extended key usage lacks serverAuth (RFC 5280 section 4.2.1.12).",
                hint="Issue one with the type server or a template for web servers.",
            )


def _checked_name(name: str) -> str:
    """A host name or an address, as a certificate can say it."""
    try:
        return str(ip_address(name))
    except ValueError:
        pass
    try:
        parse_general_name(f"dns:{name}")
    except Invalid as error:
        raise Invalid.field(
            "/common_name",
            "invalid-name",
            f"A server is called by a host name or an IP address: {error.detail}",
        ) from None
    return name.lower()


def _unusable(view: CertificateView, reason: str, *, hint: str | None = None) -> Conflict:
    return Conflict(
        f"The certificate {view.id} ({view.common_name or view.subject}) cannot serve https. "
        f"{reason}",
        hint=hint or "Issue a server certificate with a key of this server and apply that.",
    )
