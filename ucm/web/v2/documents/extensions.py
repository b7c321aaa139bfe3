"""The extensions of a certificate as JSON, for detail views."""

from __future__ import annotations

from typing import Any

from cryptography import x509

from ucm.api.x509 import eku_name, general_name_text, key_usage_names


def extensions_json(certificate: x509.Certificate) -> list[dict[str, Any]]:
    """Every extension in order: ``oid``, ``name``, ``critical``, ``value`` (hex when unknown)."""
    return [
        {
            "oid": extension.oid.dotted_string,
            "name": _name(extension),
            "critical": extension.critical,
            "value": _value(extension.value),
        }
        for extension in certificate.extensions
    ]


def _name(extension: x509.Extension[x509.ExtensionType]) -> str:
    if isinstance(extension.value, x509.UnrecognizedExtension):
        return extension.oid.dotted_string
    return type(extension.value).__name__[:1].lower() + type(extension.value).__name__[1:]


def _value(value: x509.ExtensionType) -> Any:
    match value:
        case x509.BasicConstraints():
            return {"ca": value.ca, "path_length": value.path_length}
        case x509.KeyUsage():
            return sorted(key_usage_names(value))
        case x509.ExtendedKeyUsage():
            return [
                {"oid": oid.dotted_string, "name": eku_name(oid.dotted_string)} for oid in value
            ]
        case x509.SubjectAlternativeName() | x509.IssuerAlternativeName():
            return [general_name_text(name) for name in value]
        case x509.SubjectKeyIdentifier():
            return value.digest.hex()
        case x509.AuthorityKeyIdentifier():
            return value.key_identifier.hex() if value.key_identifier else None
        case x509.TLSFeature():
            return [feature.name for feature in value]
        case _:
            return _publication_value(value)


def _publication_value(value: x509.ExtensionType) -> Any:
    match value:
        case x509.CRLDistributionPoints() | x509.FreshestCRL():
            return [
                general_name_text(name).removeprefix("uri:")
                for point in value
                for name in point.full_name or ()
            ]
        case x509.AuthorityInformationAccess() | x509.SubjectInformationAccess():
            return [
                {
                    "method": entry.access_method.dotted_string,
                    "location": general_name_text(entry.access_location).removeprefix("uri:"),
                }
                for entry in value
            ]
        case x509.CertificatePolicies():
            return [
                {
                    "oid": policy.policy_identifier.dotted_string,
                    "cps": [q for q in policy.policy_qualifiers or () if isinstance(q, str)],
                }
                for policy in value
            ]
        case x509.NameConstraints():
            return {
                "permitted": [general_name_text(n) for n in value.permitted_subtrees or ()],
                "excluded": [general_name_text(n) for n in value.excluded_subtrees or ()],
            }
        case x509.PolicyConstraints():
            return {
                "require_explicit_policy": value.require_explicit_policy,
                "inhibit_policy_mapping": value.inhibit_policy_mapping,
            }
        case x509.InhibitAnyPolicy():
            return value.skip_certs
        case x509.OCSPNoCheck():
            return True
        case _:
            return value.public_bytes().hex()
