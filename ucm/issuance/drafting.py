"""Profile and request become a draft: the certificate complete but for its signature.

A draft is never wider than its profile. What a requester asks for beyond it is dropped and listed
in ``adjustments``; what an operator asks for beyond it is refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import lru_cache

from cryptography import x509
from cryptography.x509.oid import NameOID

from ucm.api.errors import Invalid
from ucm.api.issuance import (
    CAParameters,
    CertificateDraft,
    CertificateKind,
    Denial,
    DraftPatch,
    ExtensionKind,
    IssuanceRequest,
    Profile,
)
from ucm.api.keys import KeySpec, SignatureScheme
from ucm.api.names import (
    SUBJECT_ATTRIBUTES,
    build_subject,
    canonical_names,
    check_subject,
    general_name_kind,
)
from ucm.api.private_keys import scheme_for
from ucm.api.x509 import canonical_key_usages, eku_name
from ucm.domain import keypolicy
from ucm.domain.keypolicy import leaf_usages
from ucm.domain.names import Identity, mail_identity, server_identity
from ucm.domain.validity import (
    MAX_CA_VALIDITY,
    MAX_LEAF_VALIDITY,
    Bounds,
    Period,
    Wish,
    plan,
)
from ucm.issuance import extensions
from ucm.issuance.issuer import Issuer

DEFAULT_SAN_KINDS = frozenset({"dns", "ip", "email", "uri"})
UNPROVED_SAN_KINDS = frozenset({"dns", "ip", "uri"})
"""Forms that may come from an enrollee's request alone; persons' names never do (RFC 8555 7.4)."""

_EXPLICIT_END_REFUSED = frozenset({"api", "cli"})
_STRONGER = ("sha256", "sha384", "sha512")


@dataclass(frozen=True, kw_only=True, slots=True)
class Applicant:
    """Who asks for what, resolved: the key, its kind, and how far the origin is trusted."""

    request: IssuanceRequest
    profile: Profile
    public_key: bytes
    key_spec: KeySpec
    enrollee: bool
    """A protocol's client: it may choose among what the profile offers, and nothing more."""

    @property
    def is_ca(self) -> bool:
        """Whether an authority is asked for."""
        return self.profile.kind is not CertificateKind.END_ENTITY


@dataclass(slots=True)
class Outcome:
    """The draft, what was dropped from the wishes, and why it must not be issued (if so)."""

    draft: CertificateDraft
    adjustments: list[str] = field(default_factory=list)
    denials: list[Denial] = field(default_factory=list)


# --- names ---------------------------------------------------------------------------------------


def _identity(applicant: Applicant, purposes: tuple[str, ...], denials: list[Denial]) -> Identity:
    request, profile = applicant.request, applicant.profile
    csr = request.csr
    # What comes from a request was checked when it was parsed.
    subject = csr.subject if csr is not None else x509.Name([])
    if request.subject is not None:
        subject = request.subject
        check_subject(subject)
    names = csr.names if csr is not None else ()
    if request.names is not None:
        names = canonical_names(request.names)
    proved = request.names is not None or not applicant.enrollee
    subject = templated_subject(
        subject, pinned=profile.pinned_subject, default=profile.default_subject
    )
    if applicant.is_ca:
        identity = Identity(subject, names)
        if not subject.rdns:
            denials.append(
                Denial(
                    "empty-subject",
                    "An authority needs a subject (RFC 5280 4.1.2.6).",
                    "Give it at least a common name.",
                    "/subject",
                )
            )
    elif keypolicy.SERVER_AUTH in purposes:
        identity = server_identity(subject, names, may_add=not applicant.enrollee)
    elif keypolicy.EMAIL_PROTECTION in purposes and not applicant.enrollee:
        identity = mail_identity(subject, names)
    else:
        identity = Identity(subject, names)
    denials.extend(_name_denials(identity, profile, is_ca=applicant.is_ca, proved=proved))
    return identity


def _name_denials(
    identity: Identity, profile: Profile, *, is_ca: bool, proved: bool
) -> Iterable[Denial]:
    if identity.uncovered_common_name is not None:
        yield Denial(
            "common-name-not-covered",
            f"The common name {identity.uncovered_common_name!r} is not among the alternative "
            "names (BR 7.1.4.3).",
            "Add it to the alternative names or leave it out.",
            "/subject/CN",
        )
    if not identity.subject.rdns and not identity.names and not is_ca:
        yield Denial(
            "no-name",
            "The certificate would name nobody: it has neither a subject nor an alternative name "
            "(RFC 5280 4.1.2.6).",
            "Give a common name or an alternative name.",
            "/san",
        )
    allowed = profile.san_types or DEFAULT_SAN_KINDS
    if not proved:
        allowed &= UNPROVED_SAN_KINDS
    for kind in dict.fromkeys(general_name_kind(name) for name in identity.names):
        if kind not in allowed:
            yield Denial(
                "name-form-not-allowed",
                f"Alternative names of the form {kind!r} are not allowed by {profile.name!r}.",
                f"Allowed here: {', '.join(sorted(allowed))}.",
                "/san",
            )


def templated_subject(
    subject: x509.Name, *, pinned: Mapping[str, str], default: Mapping[str, str]
) -> x509.Name:
    """The subject with pinned attributes put in place of its own and missing ones filled in.

    Untouched, bytes and all, when the profile says nothing. Raises ``Invalid`` for attributes that
    ``build_subject`` does not know.
    """
    present = {attribute.oid for attribute in subject}
    chosen = {
        short: value
        for short, value in default.items()
        if value and SUBJECT_ATTRIBUTES.get(short) not in present
    }
    chosen.update({short: value for short, value in pinned.items() if value})
    if not chosen:
        return subject
    built = build_subject(chosen.items())
    replaced = {attribute.oid for attribute in built}
    order = list(SUBJECT_ATTRIBUTES.values())
    kept = [rdn for rdn in subject.rdns if not any(a.oid in replaced for a in rdn)]
    rdns = [*built.rdns, *kept]
    rdns.sort(key=lambda rdn: _rank(next(iter(rdn)).oid, order))
    return x509.Name(rdns)


def _rank(oid: x509.ObjectIdentifier, order: list[x509.ObjectIdentifier]) -> int:
    return order.index(oid) if oid in order else order.index(NameOID.COMMON_NAME) - 1


# --- usages --------------------------------------------------------------------------------------


def purposes_of(applicant: Applicant, adjustments: list[str], denials: list[Denial]) -> list[str]:
    """Extended key usages, in order. A leaf always has some: what is refused never widens it."""
    request, profile = applicant.request, applicant.profile
    if applicant.is_ca:
        parameters = request.ca_parameters or CAParameters()
        return list(dict.fromkeys(parameters.extended_key_usage or profile.extended_key_usage))
    offered = [
        oid
        for oid in profile.extended_key_usage
        if not (applicant.enrollee and oid in keypolicy.NEVER_FOR_ENROLLEES)
    ]
    optional = profile.allowed_extra_ekus or frozenset()
    if not profile.extended_key_usage:
        optional |= keypolicy.DEVICE_PURPOSES
    choosable = frozenset(offered) | (optional - keypolicy.NEVER_FOR_ENROLLEES)
    wishes = request.csr.extended_key_usage if request.csr is not None else ()
    granted = [oid for oid in dict.fromkeys(wishes) if oid in choosable]
    adjustments.extend(
        f"extended key usage {eku_name(oid)} not granted" for oid in wishes if oid not in choosable
    )
    if not granted:
        granted = offered or [keypolicy.SERVER_AUTH]
    if applicant.enrollee and profile.extended_key_usage and not offered:
        denials.append(
            Denial(
                "profile-not-for-enrolment",
                f"The profile {profile.name!r} is for the authority's own use "
                f"({', '.join(map(eku_name, profile.extended_key_usage))}).",
                "Enrol with a profile for servers, clients or devices.",
                "/profile",
            )
        )
    return list(dict.fromkeys([*granted, *_extra_purposes(applicant, denials)]))


def _extra_purposes(applicant: Applicant, denials: list[Denial]) -> Iterable[str]:
    allowed = applicant.profile.allowed_extra_ekus
    for index, oid in enumerate(applicant.request.extra_ekus):
        forbidden = oid == keypolicy.ANY_PURPOSE or (
            applicant.enrollee and oid in keypolicy.NEVER_FOR_ENROLLEES
        )
        if not forbidden and (allowed is None or oid in allowed):
            yield oid
            continue
        denials.append(
            Denial(
                "purpose-not-allowed",
                f"The extended key usage {eku_name(oid)} may not be added to "
                f"{applicant.profile.name!r}.",
                "Leave it out, or use a template that has it.",
                f"/extra_ekus/{index}",
            )
        )


def _usages(
    applicant: Applicant, purposes: tuple[str, ...], adjustments: list[str]
) -> frozenset[str]:
    profile, spec = applicant.profile, applicant.key_spec
    if applicant.is_ca:
        parameters = applicant.request.ca_parameters or CAParameters()
        wanted = canonical_key_usages(parameters.key_usage) | profile.key_usage
        if "keyCertSign" not in wanted:
            raise Invalid.field(
                "/key_usage",
                "ca-without-key-cert-sign",
                "An authority needs the key usage keyCertSign (RFC 5280 4.2.1.9).",
            )
        unfit = wanted - keypolicy.usages_that_fit(spec)
        if unfit:
            raise Invalid.field(
                "/key_usage",
                "usage-does-not-fit-key",
                f"{', '.join(sorted(unfit))} does not fit a key of the kind {spec.value} "
                "(RFC 8813, 8410, 9881).",
            )
        return wanted
    usages = leaf_usages(profile.key_usage, spec=spec, purposes=purposes)
    csr = applicant.request.csr
    wished = profile.key_usage | (csr.key_usage if csr is not None else frozenset())
    refused = wished & keypolicy.CA_USAGES | wished - keypolicy.usages_that_fit(spec)
    adjustments.extend(f"key usage {bit} not granted" for bit in sorted(refused))
    if csr is not None and csr.wants_ca:
        adjustments.append("CA:TRUE not granted")
    return usages


# --- validity and signature ----------------------------------------------------------------------


def _period(applicant: Applicant, issuer: Issuer | None, now: datetime) -> Period:
    request, profile = applicant.request, applicant.profile
    limit = MAX_CA_VALIDITY if applicant.is_ca else MAX_LEAF_VALIDITY
    bounds = Bounds(
        default=profile.default_validity,
        maximum=min(profile.max_validity, limit),
        issuer_not_before=issuer.ca.not_before if issuer else None,
        issuer_not_after=issuer.ca.not_after if issuer else None,
        clamp=request.origin.kind not in _EXPLICIT_END_REFUSED,
    )
    wish = Wish(
        not_before=request.not_before, not_after=request.not_after, duration=request.validity
    )
    return plan(now, wish=wish, bounds=bounds)


def scheme_of(profile: Profile, *, signer: KeySpec, ca_digest: str = "auto") -> SignatureScheme:
    """How the issuer's key signs: the digest of the template, else of the authority.

    The digest that matches the curve is the floor (BR 7.1.3.2.2: P-384 with SHA-384), so that a
    template's default of SHA-256 weakens nothing.
    """
    return _scheme(profile.digest if profile.digest != "auto" else ca_digest, signer)


@lru_cache(maxsize=64)
def _scheme(digest: str, signer: KeySpec) -> SignatureScheme:
    matched = scheme_for(signer)
    if digest == "auto":
        return matched
    chosen = scheme_for(signer, digest=digest)
    ends = [scheme.value.rpartition("-")[2] for scheme in (matched, chosen)]
    if ends[0] in _STRONGER and ends[1] in _STRONGER:
        return max((matched, chosen), key=lambda s: _STRONGER.index(s.value.rpartition("-")[2]))
    return chosen


# --- the draft -----------------------------------------------------------------------------------


def compose(applicant: Applicant, *, issuer: Issuer | None, serial: int, now: datetime) -> Outcome:
    """The draft for an applicant. Raises ``Invalid`` for wishes that break a rule by themselves."""
    adjustments: list[str] = []
    denials: list[Denial] = []
    profile, request = applicant.profile, applicant.request
    purposes = tuple(purposes_of(applicant, adjustments, denials))
    identity = _identity(applicant, purposes, denials)
    usages = _usages(applicant, purposes, adjustments)
    period = _period(applicant, issuer, now)
    if period.clamped:
        adjustments.append("validity cut to the issuer's")
    if request.csr is not None:
        adjustments += [
            f"requested extension {oid} ignored" for oid in request.csr.ignored_extensions
        ]
    signer_spec = applicant.key_spec if issuer is None else issuer.spec
    if signer_spec is None:
        raise Invalid("The authority's key is of a kind that UCM cannot sign with.")
    parts = extensions.Parts(
        public_key=applicant.public_key,
        authority_key_id=issuer.authority_key_id if issuer else None,
        urls=issuer.ca.urls if issuer else None,
        usages=usages,
        purposes=purposes,
        purposes_critical=profile.extended_key_usage_critical,
        names=identity.names,
        names_critical=not identity.subject.rdns,
        must_staple=_must_staple(request, purposes),
        ocsp_no_check=profile.ocsp_no_check,
        no_rev_avail=profile.no_rev_avail,
    )
    if applicant.is_ca:
        parameters = request.ca_parameters or CAParameters()
        path_length, denial = child_path_length(parameters.path_length, issuer)
        denials += [denial] if denial else []
        made = extensions.of_authority(parts, parameters, path_length=path_length)
    else:
        made = extensions.of_leaf(parts)
    draft = CertificateDraft(
        profile=profile,
        subject=identity.subject,
        issuer=issuer.subject if issuer else identity.subject,
        names=identity.names,
        public_key=applicant.public_key,
        serial=serial,
        not_before=period.not_before,
        not_after=period.not_after,
        extensions=made,
        scheme=scheme_of(
            profile, signer=signer_spec, ca_digest=issuer.ca.digest if issuer else "auto"
        ),
    )
    return Outcome(draft, adjustments, denials)


def _must_staple(request: IssuanceRequest, purposes: tuple[str, ...]) -> bool:
    wished = request.must_staple or (request.csr is not None and request.csr.must_staple)
    return wished and keypolicy.SERVER_AUTH in purposes


def child_path_length(
    wanted: int | None, issuer: Issuer | None
) -> tuple[int | None, Denial | None]:
    """The path length of a new authority: below what its issuer still allows (RFC 5280 6.1.4 m)."""
    if wanted is not None and not 0 <= wanted <= 32:
        raise Invalid.field("/path_length", "invalid-path-length", "The path length is 0 to 32.")
    limit = issuer.path_length if issuer else None
    if limit is None:
        return wanted, None
    if limit == 0:
        return None, Denial(
            "path-length-exhausted",
            "The issuing authority has the path length 0: it certifies no further authorities.",
            "Choose an issuer with a greater path length.",
            "/path_length",
        )
    if wanted is not None and wanted >= limit:
        return None, Denial(
            "path-length-too-great",
            f"The path length {wanted} must be smaller than the issuer's {limit}.",
            f"Ask for at most {limit - 1}.",
            "/path_length",
        )
    return (limit - 1 if wanted is None else wanted), None


# --- what plugins and origins add ----------------------------------------------------------------


def with_requested(
    outcome: Outcome, request: IssuanceRequest, registered: Mapping[str, ExtensionKind]
) -> Outcome:
    """Add the registered extensions an origin asks for. Raises ``Invalid`` for others."""
    for index, extension in enumerate(request.requested_extensions):
        denial = _extension_denial(extension, outcome.draft.extensions, registered)
        if denial is not None:
            raise Invalid.field(f"/requested_extensions/{index}", denial.code, denial.detail)
        outcome.draft = replace(outcome.draft, extensions=(*outcome.draft.extensions, extension))
    return outcome


def amended(
    outcome: Outcome,
    patches: Iterable[DraftPatch],
    *,
    registered: Mapping[str, ExtensionKind],
    now: datetime,
) -> Outcome:
    """Apply what plugins add. A patch that goes beyond its rights is a denial, not a change."""
    for patch in patches:
        draft = outcome.draft
        for extension in patch.extensions:
            denial = _extension_denial(extension, draft.extensions, registered)
            if denial is not None:
                outcome.denials.append(denial)
                continue
            draft = replace(draft, extensions=(*draft.extensions, extension))
        if patch.not_after is not None:
            end = patch.not_after.replace(microsecond=0)
            if now < end <= draft.not_after:
                draft = replace(draft, not_after=end)
            else:
                outcome.denials.append(
                    Denial(
                        "patch-refused",
                        "A plugin tried to set an end of validity that is past or later than the "
                        "draft's; it may only shorten it.",
                        "Report this to the plugin's author.",
                    )
                )
        outcome.draft = draft
    return outcome


def _extension_denial(
    extension: x509.Extension[x509.ExtensionType],
    present: tuple[x509.Extension[x509.ExtensionType], ...],
    registered: Mapping[str, ExtensionKind],
) -> Denial | None:
    oid = extension.oid.dotted_string
    kind = registered.get(oid)
    reason = None
    if kind is None or extension.oid in extensions.CORE_OIDS:
        reason = "is not registered by any running plugin"
    elif extension.critical and not kind.critical:
        reason = "is registered as never critical"
    elif any(other.oid == extension.oid for other in present):
        reason = "is already in the certificate"
    if reason is None:
        return None
    return Denial(
        "extension-refused",
        f"The extension {oid} {reason}.",
        "Extensions are declared by a plugin's ucm_extensions hook.",
    )
