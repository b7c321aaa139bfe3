"""P-256 certification requests, as a client would send them."""

from __future__ import annotations

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


def make(count: int) -> list[bytes]:
    """``count`` PEM requests with one common name and two DNS names each."""
    requests = []
    for number in range(count):
        host = f"host{number}.bench.example"
        names = [x509.DNSName(host), x509.DNSName(f"www.{host}")]
        requests.append(
            x509.CertificateSigningRequestBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)]))
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
            .public_bytes(serialization.Encoding.PEM)
        )
    return requests
