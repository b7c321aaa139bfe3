"""Which usages fit which key, and which usages a purpose needs."""

from __future__ import annotations

from ucm.api.keys import KeySpec

CA_USAGES = frozenset({"keyCertSign", "cRLSign"})

_SIGNING = frozenset({"digitalSignature", "nonRepudiation"}) | CA_USAGES
_AGREEMENT = frozenset({"keyAgreement", "encipherOnly", "decipherOnly"})
_ENCIPHERMENT = frozenset({"keyEncipherment", "dataEncipherment"})

SERVER_AUTH = "1.3.6.1.5.5.7.3.1"
CLIENT_AUTH = "1.3.6.1.5.5.7.3.2"
CODE_SIGNING = "1.3.6.1.5.5.7.3.3"
EMAIL_PROTECTION = "1.3.6.1.5.5.7.3.4"
TIME_STAMPING = "1.3.6.1.5.5.7.3.8"
OCSP_SIGNING = "1.3.6.1.5.5.7.3.9"
IPSEC_IKE = "1.3.6.1.5.5.7.3.17"
CMC_RA = "1.3.6.1.5.5.7.3.28"
SMARTCARD_LOGON = "1.3.6.1.4.1.311.20.2.2"
ANY_PURPOSE = "2.5.29.37.0"

NEVER_FOR_ENROLLEES = frozenset({ANY_PURPOSE, OCSP_SIGNING, TIME_STAMPING, SMARTCARD_LOGON, CMC_RA})
"""Purposes that speak for the authority or for a person; no enrolling device gets them."""

DEVICE_PURPOSES = frozenset({SERVER_AUTH, CLIENT_AUTH, EMAIL_PROTECTION, CODE_SIGNING, IPSEC_IKE})
"""What a requester may choose among when the template names no purpose."""

_NEEDS = {
    SERVER_AUTH: frozenset({"digitalSignature", "keyEncipherment", "keyAgreement"}),
    CLIENT_AUTH: frozenset({"digitalSignature", "keyAgreement"}),
    CODE_SIGNING: frozenset({"digitalSignature"}),
    EMAIL_PROTECTION: frozenset(
        {"digitalSignature", "nonRepudiation", "keyEncipherment", "keyAgreement"}
    ),
    TIME_STAMPING: frozenset({"digitalSignature", "nonRepudiation"}),
    OCSP_SIGNING: frozenset({"digitalSignature", "nonRepudiation"}),
}


def usages_that_fit(spec: KeySpec) -> frozenset[str]:
    """Key usage bits a key of this kind can have (RFC 3279 2.3.1, RFC 8813 3, RFC 8410 5,
    RFC 9881 5).
    """
    if spec.value.startswith("RSA-"):
        return _SIGNING | _ENCIPHERMENT
    if spec.value.startswith("EC-"):
        return _SIGNING | _AGREEMENT
    return _SIGNING


def purpose_lacks_usage(purpose: str, usages: frozenset[str]) -> bool:
    """Whether none of the usages that the purpose is consistent with is set (RFC 5280 4.2.1.12)."""
    needed = _NEEDS.get(purpose)
    return needed is not None and not needed & usages


def leaf_usages(
    wanted: frozenset[str], *, spec: KeySpec, purposes: tuple[str, ...]
) -> frozenset[str]:
    """Bits of an end-entity certificate: those wanted that fit the key and make no CA.

    Never empty; a purpose that would be left without any usage brings digitalSignature back. With
    nothing wanted: digitalSignature, and keyEncipherment for RSA keys of TLS servers.
    """
    fitting = usages_that_fit(spec) - CA_USAGES
    if not wanted:
        default = {"digitalSignature"}
        if SERVER_AUTH in purposes:
            default.add("keyEncipherment")
        return frozenset(default) & fitting
    usages = wanted & fitting
    if not usages & _AGREEMENT - {"encipherOnly", "decipherOnly"}:
        usages -= _AGREEMENT
    if not usages or any(purpose_lacks_usage(p, usages) for p in purposes):
        usages |= {"digitalSignature"}
    return usages
