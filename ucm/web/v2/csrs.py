"""``/csrs``: certificate signing requests."""

from __future__ import annotations

from typing import Any

from flask import Response
from flask_openapi3 import Tag

from ucm.api.errors import Forbidden
from ucm.api.issuance import Held
from ucm.api.views import CsrView
from ucm.api.web import current_actor, requires
from ucm.services.audit import AuditService
from ucm.services.csrs import INTERMEDIATE, CsrOrder, CsrService, CsrSignature
from ucm.services.orders import SubjectOrder
from ucm.web.blueprints import APIBlueprint
from ucm.web.envelope import created, no_content, ok, page_meta
from ucm.web.requests import IdPath
from ucm.web.v2.bodies.certificates import KeyAttachBody
from ucm.web.v2.bodies.common import BulkIds
from ucm.web.v2.bodies.csrs import (
    CsrBulkSignBody,
    CsrCreateBody,
    CsrImportForm,
    CsrListQuery,
    CsrSignBody,
    CsrUploadBody,
)
from ucm.web.v2.certificates import CertificateDocuments, approval_json
from ucm.web.v2.documents.bulk import bulk_json
from ucm.web.v2.documents.certificates import csr_detail_json, csr_json
from ucm.web.v2.downloads import download
from ucm.web.v2.refusals import AuditedBlueprint
from ucm.web.v2.schemas import (
    BulkResult,
    BulkSigned,
    CertificateOrApproval,
    CsrDetail,
    CsrItem,
    Envelope,
    ListEnvelope,
    file_response,
)

_TAG = Tag(name="csrs", description="Certificate signing requests")


def blueprint(
    csrs: CsrService, *, certificates: CertificateDocuments, audit: AuditService
) -> APIBlueprint:
    """Routes below ``/api/v2/csrs``."""
    api = AuditedBlueprint("csrs", audit=audit, action="csr_refused", tag=_TAG)
    _reading(api, csrs)
    _taking(api, csrs)
    _signing(api, csrs, certificates)
    _bulk(api, csrs)
    return api


def _reading(api: APIBlueprint, csrs: CsrService) -> None:
    def listed(query: CsrListQuery, *, signed: bool) -> Response:
        page = csrs.page(
            signed=signed, search=query.search or "", page=query.page, per_page=query.per_page
        )
        issuers = csrs.issuers(page.items)
        rows = [csr_json(view, signed_by=issuers.get(view.id)) for view in page.items]
        return ok(rows, meta=page_meta(page))

    @api.get("", summary="Requests that wait", responses={"200": ListEnvelope[CsrItem]})
    @requires("read:csrs")
    def list_csrs(query: CsrListQuery) -> Response:
        return listed(query, signed=False)

    @api.get("/history", summary="Signed requests", responses={"200": ListEnvelope[CsrItem]})
    @requires("read:csrs")
    def list_signed_csrs(query: CsrListQuery) -> Response:
        return listed(query, signed=True)

    @api.get("/<int:id>", summary="One request", responses={"200": Envelope[CsrDetail]})
    @requires("read:csrs")
    def get_csr(path: IdPath) -> Response:
        return ok(_detail(csrs, csrs.get(path.id)))

    @api.get(
        "/<int:id>/export",
        summary="Download in PEM",
        responses={"200": file_response("application/x-pem-file")},
    )
    @requires("read:csrs")
    def export_csr(path: IdPath) -> Response:
        return download(csrs.export(path.id, actor=current_actor()))


def _detail(csrs: CsrService, view: CsrView) -> dict[str, Any]:
    return csr_detail_json(view, signed_by=csrs.issuers([view]).get(view.id))


def _taking(api: APIBlueprint, csrs: CsrService) -> None:
    @api.post("", summary="Make a key and a request", responses={"201": Envelope[CsrDetail]})
    @requires("write:csrs")
    def create_csr(body: CsrCreateBody) -> Response:
        order = CsrOrder(
            subject=SubjectOrder(
                common_name=body.cn,
                organization=body.organization,
                organizational_unit=body.department,
                country=body.country,
                state=body.state,
                locality=body.locality,
            ),
            names=tuple(body.sans),
            key_type=body.key_type,
            description=body.description or "",
        )
        return _created(csrs, csrs.create(order, actor=current_actor()))

    @api.post("/upload", summary="Upload a request", responses={"201": Envelope[CsrDetail]})
    @requires("write:csrs")
    def upload_csr(body: CsrUploadBody) -> Response:
        view = csrs.take(body.pem.encode(), name=body.name, pointer="/pem", actor=current_actor())
        return _created(csrs, view)

    @api.post("/import", summary="Import a request", responses={"201": Envelope[CsrDetail]})
    @requires("write:csrs")
    def import_csr(form: CsrImportForm) -> Response:
        pointer = "/file" if form.file is not None else "/pem_content"
        view = csrs.take(
            form.content(), name=form.name, pointer=pointer, imported=True, actor=current_actor()
        )
        return _created(csrs, view)

    @api.post(
        "/<int:id>/key", summary="Attach the private key", responses={"200": Envelope[CsrDetail]}
    )
    @requires("write:csrs")
    def attach_csr_key(path: IdPath, body: KeyAttachBody) -> Response:
        view = csrs.attach_key(
            path.id, key=body.key, passphrase=body.passphrase, actor=current_actor()
        )
        return ok(_detail(csrs, view), message="Private key attached")

    @api.delete("/<int:id>", summary="Delete a request", responses={"204": None})
    @requires("delete:csrs")
    def delete_csr(path: IdPath) -> Response:
        csrs.delete(path.id, actor=current_actor())
        return no_content()


def _created(csrs: CsrService, view: CsrView) -> Response:
    return created(_detail(csrs, view), location=f"/api/v2/csrs/{view.id}")


def _signing(api: APIBlueprint, csrs: CsrService, certificates: CertificateDocuments) -> None:
    @api.post(
        "/<int:id>/sign",
        summary="Sign a request",
        responses={"200": Envelope[CertificateOrApproval]},
    )
    @requires("write:csrs", "write:certificates")
    def sign_csr(path: IdPath, body: CsrSignBody) -> Response:
        actor = current_actor()
        if body.cert_type == INTERMEDIATE and not actor.may("write:cas"):
            raise Forbidden(
                "Signing an authority needs the permission write:cas.",
                hint="Choose another cert_type, or ask an administrator.",
                extra={"missing_permissions": ["write:cas"]},
            )
        how = CsrSignature(
            ca_id=body.ca_id,
            validity_days=body.validity_days,
            cert_type=body.cert_type,
            template_id=body.template_id,
            extra_ekus=tuple(body.extra_ekus),
        )
        signed = csrs.sign(path.id, how, actor=actor)
        if isinstance(signed, Held):
            return ok(approval_json(signed))
        return ok(certificates.one(signed), message="CSR signed")


def _bulk(api: APIBlueprint, csrs: CsrService) -> None:
    @api.post("/bulk/sign", summary="Sign several", responses={"200": Envelope[BulkSigned]})
    @requires("write:csrs", "write:certificates")
    def bulk_sign_csrs(body: CsrBulkSignBody) -> Response:
        how = CsrSignature(
            ca_id=body.ca_id,
            validity_days=body.validity_days,
            cert_type=body.cert_type,
            template_id=body.template_id,
        )
        outcome = csrs.bulk_sign(body.ids, how, actor=current_actor())
        return ok(bulk_json(outcome, made=True), message=f"{len(outcome.success)} CSRs signed")

    @api.post("/bulk/delete", summary="Delete several", responses={"200": Envelope[BulkResult]})
    @requires("delete:csrs")
    def bulk_delete_csrs(body: BulkIds) -> Response:
        outcome = csrs.bulk_delete(body.ids, actor=current_actor())
        return ok(bulk_json(outcome), message=f"{len(outcome.success)} CSRs deleted")
