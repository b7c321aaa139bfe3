"""``/cas``: certificate authorities."""

from __future__ import annotations

from typing import Any

from flask import Response
from flask_openapi3 import Tag
from pydantic import Field

from ucm.api.views import CertificateStatus
from ucm.api.web import current_actor, requires
from ucm.services.audit import AuditService
from ucm.services.ca_orders import CaOrder, CaRenewal
from ucm.services.cas import AuthorityService, CaBranch, ListedCa
from ucm.services.certificates import CertificateService
from ucm.services.intake import ImportOrder
from ucm.services.orders import SubjectOrder
from ucm.services.templates import TemplateService
from ucm.store.certificate_query import CertificateQuery
from ucm.store.paging import Page
from ucm.web.blueprints import APIBlueprint
from ucm.web.envelope import created, no_content, ok, page_meta
from ucm.web.requests import LARGEST_ID, IdPath
from ucm.web.v2.bodies.cas import (
    CaBulkExportBody,
    CaCertificatesQuery,
    CaCreateBody,
    CaExportAllQuery,
    CaImportForm,
    CaListQuery,
    CaRenewBody,
    CaUpdateBody,
)
from ucm.web.v2.bodies.common import (
    BulkIds,
    ExportBody,
    ExportManyBody,
    ExportQuery,
)
from ucm.web.v2.certificates import CertificateDocuments
from ucm.web.v2.documents.bulk import bulk_json
from ucm.web.v2.documents.cas import ca_detail_json, ca_json
from ucm.web.v2.documents.templates import pinnable_template_json
from ucm.web.v2.downloads import download
from ucm.web.v2.refusals import AuditedBlueprint
from ucm.web.v2.schemas import (
    BulkResult,
    CaDetail,
    CaItem,
    CaNode,
    CertificateItem,
    Envelope,
    ListEnvelope,
    PinnableTemplate,
    conflict_response,
    file_response,
)

_TAG = Tag(name="cas", description="Certificate authorities")
_PEM = "application/x-pem-file"
_FILES = (_PEM, "application/pkix-cert", "application/x-pkcs7-certificates", "application/x-pkcs12")
_BUNDLES = (_PEM, "application/x-pkcs7-certificates")


class PinPath(IdPath):
    """An authority and a template."""

    tid: int = Field(ge=1, le=LARGEST_ID, description="Id of the template")


class CaDocuments:
    """Renders authorities as of now."""

    def __init__(self, *, cas: AuthorityService, certificates: CertificateService) -> None:
        self._cas = cas
        self._certificates = certificates

    def one(self, listed: ListedCa) -> dict[str, Any]:
        """An authority without its extensions."""
        return ca_json(
            listed.ca,
            now=self._certificates.now(),
            parent=listed.parent,
            certificates=listed.certificates,
        )

    def detail(self, listed: ListedCa) -> dict[str, Any]:
        """An authority with its extensions and chain."""
        return ca_detail_json(
            listed.ca,
            now=self._certificates.now(),
            parent=listed.parent,
            certificates=listed.certificates,
            chain=self._cas.chain(listed.ca.id),
        )

    def branch(self, branch: CaBranch) -> dict[str, Any]:
        """An authority with everything below it."""
        children = [self.branch(child) for child in branch.children]
        return {**self.one(branch.listed), "children": children}


def blueprint(
    *,
    cas: AuthorityService,
    certificates: CertificateService,
    templates: TemplateService,
    documents: CertificateDocuments,
    audit: AuditService,
) -> APIBlueprint:
    """Routes below ``/api/v2/cas``."""
    api = AuditedBlueprint("cas", audit=audit, action="ca_refused", tag=_TAG)
    authorities = CaDocuments(cas=cas, certificates=certificates)
    _reading(api, cas, authorities)
    _certificates(api, certificates, documents)
    _making(api, cas, authorities)
    _changing(api, cas, authorities)
    _files(api, cas)
    _pins(api, templates)
    return api


def _reading(api: APIBlueprint, cas: AuthorityService, documents: CaDocuments) -> None:
    @api.get("", summary="List authorities", responses={"200": ListEnvelope[CaItem]})
    @requires("read:cas")
    def list_cas(query: CaListQuery) -> Response:
        found = cas.listed(kind=query.type, search=query.search or "")
        if query.page is None and query.per_page is None:
            return ok([documents.one(listed) for listed in found])
        page = _paged(found, page=query.page or 1, per_page=query.per_page or 20)
        return ok([documents.one(listed) for listed in page.items], meta=page_meta(page))

    @api.get("/tree", summary="The hierarchy", responses={"200": ListEnvelope[CaNode]})
    @requires("read:cas")
    def ca_tree() -> Response:
        return ok([documents.branch(branch) for branch in cas.tree()])

    @api.get("/<int:id>", summary="One authority", responses={"200": Envelope[CaDetail]})
    @requires("read:cas")
    def get_ca(path: IdPath) -> Response:
        return ok(documents.detail(cas.one(path.id)))


def _certificates(
    api: APIBlueprint, certificates: CertificateService, rows: CertificateDocuments
) -> None:
    @api.get(
        "/<int:id>/certificates",
        summary="Certificates of an authority",
        responses={"200": ListEnvelope[CertificateItem]},
    )
    @requires("read:certificates")
    def list_ca_certificates(path: IdPath, query: CaCertificatesQuery) -> Response:
        page = certificates.page_of_ca(
            path.id,
            CertificateQuery(
                status=tuple(CertificateStatus(value) for value in query.status),
                ca_ids=(path.id,),
                page=query.page,
                per_page=query.per_page,
            ),
        )
        return ok(rows.many(page.items), meta=page_meta(page, next_cursor=page.next_cursor))


def _making(api: APIBlueprint, cas: AuthorityService, documents: CaDocuments) -> None:
    @api.post("", summary="Create an authority", responses={"201": Envelope[CaItem]})
    @requires("write:cas")
    def create_ca(body: CaCreateBody) -> Response:
        listed = cas.create(_order(body), actor=current_actor())
        return created(documents.one(listed), location=f"/api/v2/cas/{listed.ca.id}")

    @api.post(
        "/<int:id>/renew",
        summary="Renew its certificate",
        description="The authority goes on with a new certificate; the old one stays valid.",
        responses={"200": Envelope[CaItem]},
    )
    @requires("write:cas")
    def renew_ca(path: IdPath, body: CaRenewBody) -> Response:
        order = CaRenewal(ca_id=path.id, new_key=body.new_key, validity_days=body.validity_days)
        return ok(documents.one(cas.renew(order, actor=current_actor())), message="CA renewed")

    @api.post("/import", summary="Import an authority", responses={"201": Envelope[CaItem]})
    @requires("write:cas")
    def import_ca(form: CaImportForm) -> Response:
        order = ImportOrder(
            content=form.content(),
            password=form.password,
            name=form.name,
            import_key=form.import_key,
            update_existing=form.update_existing,
        )
        listed = cas.import_authority(order, actor=current_actor())
        return created(
            documents.one(listed), location=f"/api/v2/cas/{listed.ca.id}", message="CA imported"
        )


def _changing(api: APIBlueprint, cas: AuthorityService, documents: CaDocuments) -> None:
    @api.patch("/<int:id>", summary="Change an authority", responses={"200": Envelope[CaItem]})
    @requires("write:cas")
    def update_ca(path: IdPath, body: CaUpdateBody) -> Response:
        listed = cas.update(path.id, changes=_changes(body), actor=current_actor())
        return ok(documents.one(listed), message="CA updated")

    @api.delete("/<int:id>", summary="Delete an authority", responses={"204": None})
    @requires("delete:cas")
    def delete_ca(path: IdPath) -> Response:
        cas.delete(path.id, actor=current_actor())
        return no_content()

    @api.post("/bulk/delete", summary="Delete several", responses={"200": Envelope[BulkResult]})
    @requires("delete:cas")
    def bulk_delete_cas(body: BulkIds) -> Response:
        outcome = cas.bulk_delete(body.ids, actor=current_actor())
        return ok(bulk_json(outcome), message=f"{len(outcome.success)} CAs deleted")


def _files(api: APIBlueprint, cas: AuthorityService) -> None:
    @api.get(
        "/<int:id>/export",
        summary="Download without a password",
        responses={"200": file_response(*_FILES), "409": conflict_response()},
    )
    @requires("read:cas")
    def export_ca(path: IdPath, query: ExportQuery) -> Response:
        request = query.export_request()
        return download(cas.export(path.id, request, actor=current_actor()))

    @api.post(
        "/<int:id>/export",
        summary="Download, with a password for its key",
        responses={"200": file_response(*_FILES)},
    )
    @requires("read:cas")
    def export_ca_with_password(path: IdPath, body: ExportBody) -> Response:
        request = body.export_request()
        return download(cas.export(path.id, request, actor=current_actor()))

    @api.get(
        "/export",
        summary="Download all authorities",
        responses={"200": file_response(*_BUNDLES), "409": conflict_response()},
    )
    @requires("read:cas")
    def export_all_cas(query: CaExportAllQuery) -> Response:
        return download(cas.export_many(None, format=query.format, actor=current_actor()))

    @api.post(
        "/export",
        summary="Download all or selected authorities",
        responses={"200": file_response(*_BUNDLES)},
    )
    @requires("read:cas")
    def export_cas(body: ExportManyBody) -> Response:
        return download(cas.export_many(body.ids, format=body.format, actor=current_actor()))

    @api.post(
        "/bulk/export",
        summary="Download selected authorities",
        responses={"200": file_response(*_BUNDLES)},
    )
    @requires("read:cas")
    def bulk_export_cas(body: CaBulkExportBody) -> Response:
        return download(cas.export_many(body.ids, format=body.format, actor=current_actor()))


def _pins(api: APIBlueprint, templates: TemplateService) -> None:
    @api.get(
        "/<int:id>/templates",
        summary="All templates, and which are pinned to the authority",
        responses={"200": ListEnvelope[PinnableTemplate]},
    )
    @requires("read:cas", "read:templates")
    def list_ca_templates(path: IdPath) -> Response:
        found = templates.list(ca_id=path.id).items
        return ok([pinnable_template_json(used) for used in found])

    @api.post(
        "/<int:id>/templates/<int:tid>/pin",
        summary="Pin a template: it is shown first where the authority issues",
        responses={"201": Envelope[PinnableTemplate]},
    )
    @requires("write:cas", "write:templates")
    def pin_template(path: PinPath) -> Response:
        used = templates.pin(path.tid, ca_id=path.id, actor=current_actor())
        return created(pinnable_template_json(used), message="Template pinned")

    @api.delete(
        "/<int:id>/templates/<int:tid>/pin",
        summary="Unpin a template",
        responses={"200": Envelope[PinnableTemplate]},
    )
    @requires("write:cas", "write:templates")
    def unpin_template(path: PinPath) -> Response:
        used = templates.unpin(path.tid, ca_id=path.id, actor=current_actor())
        return ok(pinnable_template_json(used), message="Template unpinned")


def _paged(found: list[ListedCa], *, page: int, per_page: int) -> Page[ListedCa]:
    start = (page - 1) * per_page
    return Page(tuple(found[start : start + per_page]), len(found), page, per_page)


def _order(body: CaCreateBody) -> CaOrder:
    return CaOrder(
        subject=SubjectOrder(
            common_name=body.common_name,
            organization=body.organization,
            organizational_unit=body.organizational_unit,
            country=body.country,
            state=body.state,
            locality=body.locality,
        ),
        ca_type=body.ca_type,
        parent_id=body.parent_id,
        key_type=body.key_type,
        key_algorithm=body.key_algorithm,
        key_size=body.key_size,
        key_backend=body.key_backend,
        validity_years=body.validity_years,
        validity_days=body.validity_days,
        description=body.description,
        path_length=body.path_length,
        inhibit_any_policy=body.inhibit_any_policy,
        policy_constraints_require=body.policy_constraints_require,
        policy_constraints_inhibit=body.policy_constraints_inhibit,
        name_constraints_permitted=tuple(body.name_constraints_permitted),
        name_constraints_excluded=tuple(body.name_constraints_excluded),
        sia_urls=tuple(body.sia_urls),
        digest=body.digest,
        key_usage=tuple(body.key_usage) if body.key_usage is not None else None,
        extended_key_usage=tuple(body.extended_key_usage),
        cps_uri=body.cps_uri,
        cps_oid=body.cps_oid,
        named_urls=body.named_urls,
    )


_SINGLE = {
    "cdp_url": "cdp_urls",
    "ocsp_url": "ocsp_urls",
    "aia_ca_issuers_url": "aia_ca_issuers_urls",
}
_MAY_BE_NULL = frozenset({"cps_uri", "cps_oid"})


def _changes(body: CaUpdateBody) -> dict[str, Any]:
    """What was sent: null counts as left out, except where null says "none"."""
    changes: dict[str, Any] = {}
    for name in body.model_fields_set:
        value = getattr(body, name)
        if value is None and name not in _MAY_BE_NULL:
            continue
        if name in _SINGLE:
            changes.setdefault(_SINGLE[name], (value,))
        else:
            changes[name] = tuple(value) if isinstance(value, list) else value
    return changes
