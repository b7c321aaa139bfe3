"""Valid things in one line; each test then states only what it is about."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes
from cryptography.x509.oid import NameOID

from ucm.api.actor import Actor
from ucm.api.csr import CertificateRequest, parse_csr
from ucm.api.issuance import IssuanceRequest, Origin
from ucm.api.keys import KeySpec
from ucm.api.names import parse_general_name

if TYPE_CHECKING:
    from ucm.api.views import CaView
    from ucm.runtime.container import Container

_RSA_BITS = {
    KeySpec.RSA_2048: 2048,
    KeySpec.RSA_3072: 3072,
    KeySpec.RSA_4096: 4096,
    KeySpec.RSA_8192: 8192,
}
_CURVES: dict[KeySpec, ec.EllipticCurve] = {
    KeySpec.EC_P256: ec.SECP256R1(),
    KeySpec.EC_P384: ec.SECP384R1(),
    KeySpec.EC_P521: ec.SECP521R1(),
}


def a_key(spec: KeySpec = KeySpec.EC_P256) -> CertificateIssuerPrivateKeyTypes:
    """A private key of the requester's own; it never enters UCM."""
    if spec in _RSA_BITS:
        return rsa.generate_private_key(65537, _RSA_BITS[spec])
    if spec in _CURVES:
        return ec.generate_private_key(_CURVES[spec])
    if spec is KeySpec.ED25519:
        return ed25519.Ed25519PrivateKey.generate()
    if spec is KeySpec.ED448:
        return ed448.Ed448PrivateKey.generate()
    raise ValueError(f"the builders make no {spec.value} keys")


@dataclass(frozen=True, kw_only=True)
class CsrBuilder:
    """A certification request; every method returns a changed copy."""

    names: tuple[str, ...] = ()
    common_name: str | None = None
    key: CertificateIssuerPrivateKeyTypes | None = field(default=None, repr=False)
    extensions: tuple[tuple[x509.ExtensionType, bool], ...] = ()

    def with_key(self, key: KeySpec | CertificateIssuerPrivateKeyTypes) -> CsrBuilder:
        """Signed by a new key of that kind, or by the given key."""
        return replace(self, key=a_key(key) if isinstance(key, KeySpec) else key)

    def with_common_name(self, name: str) -> CsrBuilder:
        """Another subject: a CN and nothing else."""
        return replace(self, common_name=name)

    def with_names(self, *names: str) -> CsrBuilder:
        """Other subject alternative names, as text (``dns:``, ``ip:``, ``email:``, ``uri:``)."""
        return replace(self, names=names)

    def with_extension(self, value: x509.ExtensionType, *, critical: bool = False) -> CsrBuilder:
        """One more extension in the extensionRequest attribute."""
        return replace(self, extensions=(*self.extensions, (value, critical)))

    def build(self) -> x509.CertificateSigningRequest:
        """The signed request."""
        key = self.key or a_key()
        common_name = self.common_name or self.names[0].rpartition(":")[2]
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
        builder = x509.CertificateSigningRequestBuilder().subject_name(subject)
        if self.names:
            names = x509.SubjectAlternativeName([parse_general_name(name) for name in self.names])
            builder = builder.add_extension(names, critical=False)
        for value, critical in self.extensions:
            builder = builder.add_extension(value, critical=critical)
        pure = isinstance(key, (ed25519.Ed25519PrivateKey, ed448.Ed448PrivateKey))
        return builder.sign(key, None if pure else hashes.SHA256())

    def pem(self) -> str:
        """The request as PEM text."""
        return self.build().public_bytes(serialization.Encoding.PEM).decode()

    def der(self) -> bytes:
        """The request as DER."""
        return self.build().public_bytes(serialization.Encoding.DER)

    def parsed(self) -> CertificateRequest:
        """The request as the intake reads it."""
        return parse_csr(self.der())


def a_csr(*names: str) -> CsrBuilder:
    """A request for the names (default ``www.example.org``), signed by a P-256 key of its own."""
    return CsrBuilder(names=names or ("www.example.org",))


@dataclass(frozen=True, kw_only=True)
class CaBuilder:
    """An authority; ``made_in`` creates it through the pipeline, as operators do."""

    common_name: str = "Test Root"
    key_type: str = KeySpec.EC_P256.value
    parent: CaView | None = None
    backend: str | None = None
    path_length: int | None = None

    def named(self, common_name: str) -> CaBuilder:
        """Another common name."""
        return replace(self, common_name=common_name)

    def with_key(self, spec: KeySpec, *, backend: str | None = None) -> CaBuilder:
        """Another kind of key, and where it lives."""
        return replace(self, key_type=spec.value, backend=backend or self.backend)

    def below(self, parent: CaView) -> CaBuilder:
        """An intermediate authority of the given one."""
        return replace(self, parent=parent)

    def made_in(self, container: Container, *, actor: Actor | None = None) -> CaView:
        """The authority, created."""
        from ucm.services.ca_orders import CaOrder
        from ucm.services.orders import SubjectOrder

        listed = container.cas.create(
            CaOrder(
                subject=SubjectOrder(common_name=self.common_name),
                parent_id=self.parent.id if self.parent else None,
                key_type=self.key_type,
                key_backend=self.backend,
                path_length=self.path_length,
            ),
            actor=actor or Actor.system("test"),
        )
        return container.cas.get(listed.ca.id)


def a_ca(common_name: str = "Test Root") -> CaBuilder:
    """A root authority with a P-256 key."""
    return CaBuilder(common_name=common_name)


def a_request(ca: CaView, csr: CsrBuilder | None = None, *, origin: str = "api") -> IssuanceRequest:
    """A wish for a server certificate by a CSR."""
    return IssuanceRequest(
        origin=Origin(origin),
        ca_id=ca.id,
        profile="server",
        csr=(csr or a_csr()).parsed(),
    )
