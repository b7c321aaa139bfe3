"""Profiles: the built-in ones, those of plugins, and the stored templates."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any, Protocol

from ucm.api.errors import Conflict, NotFound
from ucm.api.issuance import CertificateKind, Profile, ProfileTemplate
from ucm.api.keys import KeySpec
from ucm.api.names import SUBJECT_ATTRIBUTES
from ucm.api.x509 import canonical_key_usages, eku_oid
from ucm.domain import keypolicy
from ucm.domain.validity import MAX_CA_VALIDITY, MAX_LEAF_VALIDITY
from ucm.store.templates import TemplateView

_LEAF_NAMES = frozenset({"dns", "ip", "email", "uri", "upn"})
_TLS_USAGES = frozenset({"digitalSignature", "keyEncipherment"})


def _leaf(name: str, *purposes: str, usages: Iterable[str], **more: Any) -> Profile:
    return Profile(
        name=name,
        key_usage=frozenset(usages),
        extended_key_usage=purposes,
        san_types=_LEAF_NAMES,
        **more,
    )


_BUILT_IN = (
    Profile(
        name="root-ca",
        kind=CertificateKind.ROOT_CA,
        key_usage=frozenset({"keyCertSign", "cRLSign"}),
        default_validity=timedelta(days=3650),
        max_validity=MAX_CA_VALIDITY,
    ),
    Profile(
        name="intermediate-ca",
        kind=CertificateKind.INTERMEDIATE_CA,
        # With digitalSignature it may sign OCSP answers by itself (RFC 6960 4.2.2.2).
        key_usage=frozenset({"keyCertSign", "cRLSign", "digitalSignature"}),
        default_validity=timedelta(days=3650),
        max_validity=MAX_CA_VALIDITY,
    ),
    _leaf("server", keypolicy.SERVER_AUTH, usages=_TLS_USAGES),
    _leaf("client", keypolicy.CLIENT_AUTH, usages=_TLS_USAGES),
    _leaf("combined", keypolicy.SERVER_AUTH, keypolicy.CLIENT_AUTH, usages=_TLS_USAGES),
    _leaf("code_signing", keypolicy.CODE_SIGNING, usages=("digitalSignature",)),
    _leaf(
        "email",
        keypolicy.EMAIL_PROTECTION,
        usages=("digitalSignature", "nonRepudiation", "keyEncipherment"),
    ),
    _leaf(
        "ocsp-signing",
        keypolicy.OCSP_SIGNING,
        usages=("digitalSignature",),
        ocsp_no_check=True,
        default_validity=timedelta(days=90),
    ),
    _leaf("server-tls", keypolicy.SERVER_AUTH, usages=_TLS_USAGES),
)
BUILT_IN: Mapping[str, Profile] = {profile.name: profile for profile in _BUILT_IN}
"""Profiles that exist without any template."""

_STRENGTH = {
    KeySpec.RSA_2048: 112,
    KeySpec.RSA_3072: 128,
    KeySpec.RSA_4096: 140,
    KeySpec.RSA_8192: 192,
    KeySpec.EC_P256: 128,
    KeySpec.EC_P384: 192,
    KeySpec.EC_P521: 256,
    KeySpec.ED25519: 128,
    KeySpec.ED448: 224,
    KeySpec.ML_DSA_44: 128,
    KeySpec.ML_DSA_65: 192,
    KeySpec.ML_DSA_87: 256,
}


def at_least(spec: KeySpec) -> frozenset[KeySpec]:
    """The kinds of key that are not weaker (bits of security, NIST SP 800-57 part 1 5.6.1)."""
    return frozenset(s for s, bits in _STRENGTH.items() if bits >= _STRENGTH[spec])


class Templates(Protocol):
    """Where stored templates are read."""

    def get(self, template_id: int) -> TemplateView:
        """Raises ``NotFound``."""
        ...

    def by_name(self, name: str) -> TemplateView | None:
        """By name in any case."""
        ...


class Profiles:
    """Finds the profile that a request names."""

    def __init__(self, contributed: Callable[[], Iterable[ProfileTemplate]] = tuple) -> None:
        self._contributed = contributed
        self._made: dict[int, tuple[int, Profile]] = {}

    def resolve(self, wanted: str | int | Profile, *, templates: Templates) -> Profile:
        """A profile as given, a built-in or a plugin's by its name, else a template by id or name.

        A given profile that names its template (a renewal) stays within it. Raises ``NotFound``,
        and ``Conflict`` for a template that is not active.
        """
        if isinstance(wanted, Profile):
            if wanted.template_id is None:
                return wanted
            return _within(wanted, self._of(templates.get(wanted.template_id)))
        if isinstance(wanted, int):
            return self._of(templates.get(wanted))
        found = BUILT_IN.get(wanted)
        if found is not None:
            return found
        for contributed in self._contributed():
            if contributed.profile.name == wanted:
                return contributed.profile
        template = templates.by_name(wanted)
        if template is None:
            raise NotFound(
                f"There is no template or profile named {wanted[:80]!a}.",
                hint=f"Built in are {', '.join(BUILT_IN)}; GET /api/v2/templates lists the others.",
            )
        return self._of(template)

    def _of(self, template: TemplateView) -> Profile:
        if not template.is_active:
            raise Conflict(
                f"The template {template.name!r} is not active.",
                hint="Activate it or choose another.",
            )
        version, made = self._made.get(template.id, (0, None))
        if made is None or version != template.version:
            made = profile_of(template)
            self._made[template.id] = (template.version, made)
        return made


def _within(profile: Profile, template: Profile) -> Profile:
    """The profile with what the template says about keys, lifetime, digest and subject."""
    return replace(
        profile,
        key_types=template.key_types,
        default_validity=min(profile.default_validity, template.max_validity),
        max_validity=template.max_validity,
        digest=template.digest,
        pinned_subject=template.pinned_subject,
    )


def profile_of(template: TemplateView) -> Profile:
    """What a stored template allows. Its key type is a floor: keys of at least that strength,
    unless ``extensions_template`` lists ``key_types``. Raises ``Invalid`` for usages nobody knows.
    """
    listed = template.extensions_template
    usages = canonical_key_usages(_texts(listed.get("key_usage")))
    purposes = tuple(dict.fromkeys(eku_oid(t) for t in _texts(listed.get("extended_key_usage"))))
    specs = {KeySpec(text) for text in _texts(listed.get("key_types"))}
    validity = timedelta(days=template.validity_days)
    return Profile(
        name=template.name,
        template_id=template.id,
        key_usage=usages - keypolicy.CA_USAGES,
        extended_key_usage=purposes,
        extended_key_usage_critical=bool(listed.get("extended_key_usage_critical", False)),
        key_types=frozenset(specs) or at_least(KeySpec(template.key_type)),
        san_types=frozenset(t.lower() for t in _texts(listed.get("san_types"))),
        default_validity=validity,
        max_validity=min(validity, MAX_LEAF_VALIDITY),
        digest=template.digest,
        pinned_subject=_attributes(template.pinned_subject_fields),
        default_subject=_attributes(template.dn_template),
        ocsp_no_check=keypolicy.OCSP_SIGNING in purposes,
    )


def _texts(value: object) -> list[str]:
    return [v for v in value if isinstance(v, str)] if isinstance(value, (list, tuple)) else []


_LONG_NAMES = {
    "country": "C",
    "state": "ST",
    "locality": "L",
    "organization": "O",
    "organizational_unit": "OU",
    "common_name": "CN",
    "email": "emailAddress",
} | {short.lower(): short for short in SUBJECT_ATTRIBUTES}


def _attributes(given: Mapping[str, Any]) -> dict[str, str]:
    """Subject attributes under their short names; placeholders like ``{hostname}`` say nothing."""
    attributes = {}
    for name, value in given.items():
        short = _LONG_NAMES.get(name.lower())
        if short and isinstance(value, str) and value.strip() and "{" not in value:
            attributes[short] = value.strip()
    return attributes
