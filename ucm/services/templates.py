"""Certificate templates: the system's own and the operators'; they govern what is issued."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from ucm.api.actor import Actor
from ucm.api.errors import Conflict, Forbidden, Invalid, NotFound
from ucm.api.services import Target
from ucm.api.views import CaView
from ucm.api.x509 import ANY_EKU, canonical_key_usages, eku_name, eku_oid
from ucm.services.bulk import BulkOutcome, each
from ucm.store.paging import Page
from ucm.store.templates import NewTemplate, TemplatePin, TemplateView
from ucm.store.uow import StoreTransaction, UnitOfWork

_CA_USAGES = frozenset({"keyCertSign", "cRLSign"})
_RSA_TLS = ["digitalSignature", "keyEncipherment"]


def _extensions(
    usages: Sequence[str], purposes: Sequence[str], san_types: Sequence[str]
) -> dict[str, Any]:
    return {
        "key_usage": list(usages),
        "extended_key_usage": list(purposes),
        "basic_constraints": {"ca": False},
        "san_types": list(san_types),
    }


_DEFAULTS: dict[str, dict[str, Any]] = {
    "web_server": _extensions(_RSA_TLS, ["serverAuth"], ["dns", "ip"]),
    "email": _extensions(
        ["digitalSignature", "nonRepudiation", "keyEncipherment"], ["emailProtection"], ["email"]
    ),
    "vpn_server": _extensions(_RSA_TLS, ["serverAuth", "ipsecIKE"], ["dns", "ip"]),
    "vpn_client": _extensions(
        ["digitalSignature", "keyAgreement"],
        ["clientAuth", "ipsecIKE"],
        ["dns", "ip", "email", "upn"],
    ),
    "code_signing": _extensions(["digitalSignature"], ["codeSigning"], ["email", "uri", "dns"]),
    "client_auth": _extensions(
        ["digitalSignature"], ["clientAuth"], ["dns", "ip", "email", "uri", "upn"]
    ),
    "ocsp_signing": _extensions(["digitalSignature"], ["OCSPSigning"], ["dns", "uri"]),
    "piv": _extensions(["digitalSignature"], ["clientAuth", "smartcardLogon"], ["upn", "email"]),
    "custom": _extensions(["digitalSignature"], ["serverAuth", "clientAuth"], []),
}
"""Extensions of a type where a template does not say its own."""

_SYSTEM = (
    ("Web Server (TLS/SSL)", "web_server", 397, "A TLS server, reached by host names or addresses"),
    ("Client Certificate", "client_auth", 365, "A person or device that signs in by TLS"),
    ("VPN Server", "vpn_server", 730, "A VPN gateway (TLS, IKE)"),
    ("Email (S/MIME)", "email", 365, "Signing and encrypting mail"),
    ("Code Signing", "code_signing", 365, "Signing programs and packages"),
    ("OCSP Signing", "ocsp_signing", 365, "A delegated OCSP responder (RFC 6960 4.2.2.2)"),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class TemplateFields:
    """What an operator says about a template; parts of its extensions may be left to the type."""

    name: str
    template_type: str
    description: str = ""
    key_type: str = "RSA-2048"
    validity_days: int = 397
    digest: str = "sha256"
    dn_template: Mapping[str, str] = field(default_factory=dict)
    extensions_template: Mapping[str, Any] = field(default_factory=dict)
    pinned_subject_fields: Mapping[str, str] = field(default_factory=dict)
    is_active: bool = True
    ad_derived_subject: bool = False
    autoenroll_enabled: bool = False
    allowed_ad_group: str | None = None


@dataclass(frozen=True, slots=True)
class UsedTemplate:
    """A template and how many certificates were made by it."""

    template: TemplateView
    usage_count: int
    pin: TemplatePin | None = None
    """On the authority that was asked about."""


@dataclass(frozen=True, slots=True)
class TemplateImport:
    """Names of what an import brought, changed and left alone."""

    imported: tuple[str, ...]
    updated: tuple[str, ...]
    skipped: tuple[str, ...]


EXPORTED = tuple(TemplateFields.__slots__)
"""Fields of an exported template."""


class TemplateService:
    """Reads and changes templates. System templates cannot be changed; copies of them can."""

    def __init__(self, *, uow: UnitOfWork) -> None:
        self._uow = uow

    def ensure_system_templates(self) -> None:
        """Add the system templates that are missing; safe to repeat and to run in every process."""
        actor = Actor.system()
        with self._uow.read() as reader:
            present = {template.name.casefold() for template in reader.templates.all()}
        missing = [entry for entry in _SYSTEM if entry[0].casefold() not in present]
        if not missing:
            return
        with self._uow.begin(actor) as tx:
            for name, kind, days, description in missing:
                if tx.templates.by_name(name) is not None:
                    continue  # another process was quicker
                fields = TemplateFields(
                    name=name, template_type=kind, validity_days=days, description=description
                )
                tx.templates.add(replace(_checked(fields), is_system=True))

    # --- reading ---------------------------------------------------------------------------------

    def get(self, template_id: int) -> UsedTemplate:
        """Raises ``NotFound``."""
        with self._uow.read() as reader:
            template = reader.templates.get(template_id)
            return UsedTemplate(template, reader.certificates.count_of_template(template_id))

    def list(
        self,
        *,
        types: Iterable[str] = (),
        active: bool | None = None,
        search: str = "",
        ca_id: int | None = None,
        page: int = 1,
        per_page: int | None = None,
    ) -> Page[UsedTemplate]:
        """Templates by name; all on one page unless ``per_page`` says otherwise.

        With ``ca_id`` each says whether it is pinned to that authority. Raises ``NotFound`` for an
        authority that does not exist.
        """
        wanted, words = frozenset(types), search.casefold().split()
        with self._uow.read() as reader:
            if ca_id is not None:
                reader.cas.standing(ca_id)
            pins = {} if ca_id is None else reader.templates.pins_of(ca_id)
            used = reader.certificates.counts_by_template()
            found = [
                UsedTemplate(template, used.get(template.id, 0), pins.get(template.id))
                for template in reader.templates.all(active=active)
                if (not wanted or template.template_type in wanted)
                and all(
                    word in f"{template.name} {template.description}".casefold() for word in words
                )
            ]
        size = per_page or max(len(found), 1)
        start = (page - 1) * size
        return Page(tuple(found[start : start + size]), len(found), page, size)

    def names(self) -> dict[int, str]:
        """Names by id."""
        with self._uow.read() as reader:
            return {template.id: template.name for template in reader.templates.all()}

    # --- changing --------------------------------------------------------------------------------

    def create(self, fields: TemplateFields, *, actor: Actor) -> UsedTemplate:
        """Raises ``Invalid`` for usages that are not known or that only an authority may have,
        ``Conflict`` for a name in use."""
        new = _checked(fields)
        with self._uow.begin(actor) as tx:
            template = tx.templates.get(_added(tx, new))
            _audit(tx, "template_create", template)
        return UsedTemplate(template, 0)

    def update(self, template_id: int, *, changes: Mapping[str, Any], actor: Actor) -> UsedTemplate:
        """Change fields. Raises ``Forbidden`` for a system template, ``Invalid``, ``Conflict``,
        ``NotFound``."""
        with self._uow.begin(actor) as tx:
            before = tx.templates.get(template_id)
            _refuse_system(before)
            fields = replace(_fields_of(before), **changes)
            checked = _checked(fields)
            template = tx.templates.update(
                template_id, **{name: getattr(checked, name) for name in EXPORTED}
            )
            _audit(tx, "template_update", template, changed=sorted(changes))
            usage = tx.certificates.count_of_template(template_id)
        return UsedTemplate(template, usage)

    def duplicate(self, template_id: int, *, name: str | None, actor: Actor) -> UsedTemplate:
        """A changeable copy. Raises ``Conflict`` for a name in use."""
        with self._uow.begin(actor) as tx:
            source = tx.templates.get(template_id)
            chosen = name or _free_copy_name(tx, source.name)
            new = _checked(replace(_fields_of(source), name=chosen))
            template = tx.templates.get(_added(tx, new))
            _audit(tx, "template_duplicate", template, source=source.id)
        return UsedTemplate(template, 0)

    def delete(self, template_id: int, *, actor: Actor) -> None:
        """Raises ``Forbidden`` for a system template, ``Conflict`` while certificates name it,
        ``NotFound``."""
        with self._uow.begin(actor) as tx:
            template = self._delete(tx, template_id)
            _audit(tx, "template_delete", template)

    def bulk_delete(self, ids: Sequence[int], *, actor: Actor) -> BulkOutcome:
        """Delete each that may be deleted."""
        outcome = each(ids, lambda template_id: self.delete(template_id, actor=actor))
        with self._uow.begin(actor) as tx:
            tx.audit("templates_bulk_deleted", target=Target("template"), **outcome.facts())
        return outcome

    def _delete(self, tx: StoreTransaction, template_id: int) -> TemplateView:
        template = tx.templates.get(template_id)
        _refuse_system(template)
        used = tx.certificates.count_of_template(template_id)
        if used:
            raise Conflict(
                f"{used} certificates were made by the template {template.name!r} and name it.",
                hint="Deactivate it instead (is_active: false).",
            )
        tx.templates.delete(template_id)
        return template

    # --- pinning to an authority ------------------------------------------------------------------

    def pin(self, template_id: int, *, ca_id: int, actor: Actor) -> UsedTemplate:
        """The template is shown first where the authority issues; it restricts nothing.

        Raises ``NotFound``, and ``Conflict`` when it is pinned already.
        """
        with self._uow.begin(actor) as tx:
            ca, template = tx.cas.get(ca_id), tx.templates.get(template_id)
            pin = tx.templates.pin(ca_id, template_id)
            _audit_pin(tx, "template_pinned_to_ca", ca, template)
            usage = tx.certificates.count_of_template(template_id)
        return UsedTemplate(template, usage, pin)

    def unpin(self, template_id: int, *, ca_id: int, actor: Actor) -> UsedTemplate:
        """Raises ``NotFound``, also when the template is not pinned to the authority."""
        with self._uow.begin(actor) as tx:
            ca, template = tx.cas.get(ca_id), tx.templates.get(template_id)
            if not tx.templates.unpin(ca_id, template_id):
                raise NotFound(f"The template {template.name!r} is not pinned to {ca.name!r}.")
            _audit_pin(tx, "template_unpinned_from_ca", ca, template)
            usage = tx.certificates.count_of_template(template_id)
        return UsedTemplate(template, usage)

    # --- sharing ---------------------------------------------------------------------------------

    def export(self, template_id: int | None = None) -> bytes:
        """JSON of one template, or of all that are no system templates."""
        with self._uow.read() as reader:
            if template_id is not None:
                document: Any = _exported(reader.templates.get(template_id))
            else:
                document = [_exported(t) for t in reader.templates.all() if not t.is_system]
        return json.dumps(document, indent=2, ensure_ascii=False).encode()

    def import_all(
        self, templates: Sequence[TemplateFields], *, update_existing: bool, actor: Actor
    ) -> TemplateImport:
        """Store all or, when one of them is wrong, none. Known names are skipped or updated;
        system templates are always skipped."""
        imported: list[str] = []
        updated: list[str] = []
        skipped: list[str] = []
        checked = [_checked(fields, pointer=f"/{i}") for i, fields in enumerate(templates)]
        with self._uow.begin(actor) as tx:
            for new in checked:
                present = tx.templates.by_name(new.name)
                if present is None:
                    _audit(tx, "template_import", tx.templates.get(_added(tx, new)))
                    imported.append(new.name)
                elif update_existing and not present.is_system:
                    changes = {name: getattr(new, name) for name in EXPORTED}
                    changed = tx.templates.update(present.id, **changes)
                    _audit(tx, "template_import", changed, updated=True)
                    updated.append(new.name)
                else:
                    skipped.append(new.name)
        return TemplateImport(tuple(imported), tuple(updated), tuple(skipped))


def _added(tx: StoreTransaction, new: NewTemplate) -> int:
    if tx.templates.by_name(new.name) is not None:
        raise Conflict(
            f"There is already a template with the name {new.name!r}.", hint="Choose another name."
        )
    return tx.templates.add(new)


def _checked(fields: TemplateFields, *, pointer: str = "") -> NewTemplate:
    """The row: usages by their RFC names, parts that were left out taken from the type."""
    extensions = _DEFAULTS[fields.template_type] | {
        name: value for name, value in fields.extensions_template.items() if value is not None
    }
    place = f"{pointer}/extensions_template"
    usages = canonical_key_usages(extensions["key_usage"], pointer=f"{place}/key_usage")
    if usages & _CA_USAGES:
        raise Invalid.field(
            f"{place}/key_usage",
            "ca-usage",
            "Templates make end-entity certificates; keyCertSign and cRLSign are for authorities "
            "(RFC 5280 4.2.1.3).",
            hint="Create an authority with POST /api/v2/cas instead.",
        )
    purposes = [
        eku_oid(text, pointer=f"{place}/extended_key_usage/{index}")
        for index, text in enumerate(extensions["extended_key_usage"])
    ]
    if ANY_EKU in purposes or not purposes:
        raise Invalid.field(
            f"{place}/extended_key_usage",
            "unrestricted",
            "A template must name the purposes of its certificates; without them, or with "
            "anyExtendedKeyUsage, they could be used for everything (RFC 5280 4.2.1.12).",
        )
    extensions |= {
        "key_usage": sorted(usages),
        "extended_key_usage": [eku_name(oid) for oid in dict.fromkeys(purposes)],
    }
    values = {name: getattr(fields, name) for name in EXPORTED}
    for name in ("dn_template", "pinned_subject_fields"):
        values[name] = {key: value for key, value in values[name].items() if value is not None}
    return NewTemplate(**values | {"extensions_template": extensions})


def _fields_of(template: TemplateView) -> TemplateFields:
    return TemplateFields(**{name: getattr(template, name) for name in EXPORTED})


def _exported(template: TemplateView) -> dict[str, Any]:
    return asdict(_fields_of(template))


def _free_copy_name(tx: StoreTransaction, name: str) -> str:
    base = f"{name[:88]} (copy)"
    chosen, number = base, 2
    while tx.templates.by_name(chosen) is not None:
        chosen, number = f"{base[:-1]} {number})", number + 1
    return chosen


def _refuse_system(template: TemplateView) -> None:
    if template.is_system:
        raise Forbidden(
            f"{template.name!r} is a system template and stays as it is.",
            hint=f"Duplicate it with POST /api/v2/templates/{template.id}/duplicate.",
        )


def _audit(tx: StoreTransaction, action: str, template: TemplateView, **facts: Any) -> None:
    tx.audit(action, target=Target("template", template.id, template.name), **facts)


def _audit_pin(tx: StoreTransaction, action: str, ca: CaView, template: TemplateView) -> None:
    target = Target("ca", ca.id, ca.name)
    tx.audit(action, target=target, template_id=template.id, template=template.name)
