"""``/certificates``: issue, find, renew, revoke, export, import."""

from __future__ import annotations

from flask import Response
from flask_openapi3 import Tag

from ucm.api.issuance import Held
from ucm.api.views import CertificateStatus, CertificateView
from ucm.api.web import current_actor, requires
from ucm.services.audit import AuditService
from ucm.services.cas import AuthorityService
from ucm.services.certificates import CertificateService
from ucm.services.intake import ImportOrder
from ucm.services.orders import CertificateOrder, RenewalOrder, SubjectOrder, purposes
from ucm.services.templates import TemplateService
from ucm.store.certificate_query import CertificateQuery
from ucm.web.blueprints import APIBlueprint
from ucm.web.envelope import created, no_content, ok, page_meta
from ucm.web.requests import IdPath
from ucm.web.v2.bodies.certificates import (
    BulkExportBody,
    BulkRevokeBody,
    CertificateCreateBody,
    CertificateImportForm,
    CertificateListQuery,
    CertificateRenameBody,
    CertificateRenewBody,
    ExportAllQuery,
    KeyAttachBody,
    RevokeBody,
    reason_of,
)
from ucm.web.v2.bodies.common import (
    BulkIds,
    ExportBody,
    ExportManyBody,
    ExportQuery,
)
from ucm.web.v2.documents.bulk import bulk_json
from ucm.web.v2.documents.certificates import certificate_detail_json, certificate_json
from ucm.web.v2.downloads import download, stream
from ucm.web.v2.refusals import AuditedBlueprint
from ucm.web.v2.schemas import (
    ApprovalItem,
    BulkResult,
    BulkSigned,
    CertificateDetail,
    CertificateItem,
    CertificateStats,
    ComplianceStats,
    EkuItem,
    Envelope,
    ListEnvelope,
    conflict_response,
    file_response,
)

_TAG = Tag(name="certificates", description="Certificates")
_PEM = "application/x-pem-file"
_FILES = (_PEM, "application/pkix-cert", "application/x-pkcs7-certificates", "application/x-pkcs12")


class CertificateDocuments:
    """Renders certificates with the names of what they refer to."""

    def __init__(
        self,
        *,
        certificates: CertificateService,
        cas: AuthorityService,
        templates: TemplateService,
    ) -> None:
        self._certificates = certificates
        self._cas = cas
        self._templates = templates

    def many(self, views: tuple[CertificateView, ...]) -> list[dict[str, object]]:
        """Rows of a list; authorities and templates are looked up once for all of them."""
        now = self._certificates.now()
        carefs = self._cas.refids(view.ca_id for view in views if view.ca_id is not None)
        templates = self._templates.names() if any(view.template_id for view in views) else {}
        return [
            certificate_json(view, now=now, carefs=carefs, templates=templates) for view in views
        ]

    def one(self, view: CertificateView) -> dict[str, object]:
        """A certificate without its extensions."""
        return self.many((view,))[0]

    def detail(self, view: CertificateView) -> dict[str, object]:
        """A certificate with its extensions and chain."""
        return certificate_detail_json(
            view,
            now=self._certificates.now(),
            carefs=self._cas.refids([view.ca_id] if view.ca_id is not None else []),
            templates=self._templates.names() if view.template_id else {},
            chain=self._certificates.chain_of(view),
        )


def blueprint(
    certificates: CertificateService, *, documents: CertificateDocuments, audit: AuditService
) -> APIBlueprint:
    """Routes below ``/api/v2/certificates``."""
    api = AuditedBlueprint("certificates", audit=audit, action="certificate_refused", tag=_TAG)
    _reading(api, certificates, documents)
    _issuing(api, certificates, documents)
    _revoking(api, certificates, documents)
    _keeping(api, certificates, documents)
    _files(api, certificates)
    _bulk(api, certificates)
    return api


def eku_blueprint() -> APIBlueprint:
    """Routes below ``/api/v2/eku``."""
    api = APIBlueprint("eku", __name__, url_prefix="/api/v2/eku", abp_tags=[_TAG])

    @api.get(
        "/known", summary="Known extended key usages", responses={"200": ListEnvelope[EkuItem]}
    )
    @requires("read:certificates")
    def known_ekus() -> Response:
        return ok([{"oid": oid, "name": name} for oid, name in purposes().items()])

    return api


def _reading(
    api: APIBlueprint, certificates: CertificateService, documents: CertificateDocuments
) -> None:
    @api.get("", summary="List certificates", responses={"200": ListEnvelope[CertificateItem]})
    @requires("read:certificates")
    def list_certificates(query: CertificateListQuery) -> Response:
        page = certificates.page(
            CertificateQuery(
                status=tuple(CertificateStatus(value) for value in query.status),
                ca_ids=tuple(query.ca_id),
                sources=tuple(query.source),
                template_id=query.template_id,
                search=query.search or "",
                sort_by=query.sort_by,
                descending=query.sort_order == "desc",
                page=query.page,
                per_page=query.per_page,
                after=query.cursor,
            )
        )
        meta = page_meta(page, next_cursor=page.next_cursor)
        return ok(documents.many(page.items), meta=meta)

    @api.get("/stats", summary="Counters", responses={"200": Envelope[CertificateStats]})
    @requires("read:certificates")
    def certificate_stats() -> Response:
        stats = certificates.stats()
        counts = stats.counts
        return ok(
            {
                "total": counts.total,
                "valid": counts.valid,
                "expiring": counts.expiring,
                "expired": counts.expired,
                "revoked": counts.revoked,
                "on_hold": counts.on_hold,
                "sources": stats.sources,
            }
        )

    @api.get(
        "/compliance", summary="Compliance scores", responses={"200": Envelope[ComplianceStats]}
    )
    @requires("read:certificates")
    def certificate_compliance() -> Response:
        summary = certificates.compliance()
        return ok(
            {
                "average_score": summary.average_score,
                "distribution": dict(summary.distribution),
                "total": summary.total,
            }
        )

    @api.get("/<int:id>", summary="One certificate", responses={"200": Envelope[CertificateDetail]})
    @requires("read:certificates")
    def get_certificate(path: IdPath) -> Response:
        return ok(documents.detail(certificates.get(path.id)))


def _issuing(
    api: APIBlueprint, certificates: CertificateService, documents: CertificateDocuments
) -> None:
    @api.post(
        "",
        summary="Issue a certificate",
        description="With a `csr` it is uploaded and signed in one call; without one the server "
        "makes and keeps the key.",
        responses={"200": Envelope[ApprovalItem], "201": Envelope[CertificateItem]},
    )
    @requires("write:certificates")
    def create_certificate(body: CertificateCreateBody) -> Response:
        issued = certificates.issue(_order(body), actor=current_actor())
        return _issued(issued, documents)

    @api.post(
        "/<int:id>/renew",
        summary="Issue a successor",
        description="The successor is a new certificate that names this one in `renews`.",
        responses={"200": Envelope[ApprovalItem], "201": Envelope[CertificateItem]},
    )
    @requires("write:certificates")
    def renew_certificate(path: IdPath, body: CertificateRenewBody) -> Response:
        order = RenewalOrder(
            certificate_id=path.id,
            validity_days=body.validity_days,
            csr=body.csr.encode() if body.csr is not None else None,
            new_key=body.new_key,
        )
        return _issued(certificates.renew(order, actor=current_actor()), documents)


def _issued(issued: CertificateView | Held, documents: CertificateDocuments) -> Response:
    if isinstance(issued, Held):
        return ok(approval_json(issued))
    return created(documents.one(issued), location=f"/api/v2/certificates/{issued.id}")


def approval_json(held: Held) -> dict[str, object]:
    """A request that waits for somebody's decision."""
    return {
        "approval_required": True,
        "approval_id": held.request_id,
        "policy_name": held.reason,
        "status": "pending_approval",
    }


def _order(body: CertificateCreateBody) -> CertificateOrder:
    return CertificateOrder(
        ca_id=body.ca_id,
        csr=body.csr.encode() if body.csr is not None else None,
        subject=SubjectOrder(
            common_name=body.cn,
            organization=body.organization,
            organizational_unit=body.organizational_unit,
            country=body.country,
            state=body.state,
            locality=body.locality,
        ),
        email=body.email,
        names=tuple(body.san),
        names_by_kind={
            "dns": tuple(body.san_dns),
            "ip": tuple(body.san_ip),
            "email": tuple(body.san_email),
            "uri": tuple(body.san_uri),
            "upn": tuple(body.san_upn),
        },
        key_type=body.key_type,
        key_size=body.key_size,
        curve=body.curve,
        key_backend=body.key_backend,
        template_id=body.template_id,
        cert_type=body.cert_type,
        validity_days=body.validity_days,
        extra_ekus=tuple(body.extra_ekus),
        must_staple=body.ocsp_must_staple,
        description=body.description,
        comment=body.approval_comment,
    )


def _revoking(
    api: APIBlueprint, certificates: CertificateService, documents: CertificateDocuments
) -> None:
    @api.post(
        "/<int:id>/revoke",
        summary="Revoke or hold a certificate",
        responses={"200": Envelope[CertificateItem]},
    )
    @requires("write:certificates")
    def revoke_certificate(path: IdPath, body: RevokeBody) -> Response:
        view = certificates.revoke(
            path.id,
            reason=reason_of(body.reason),
            invalidity_date=body.invalidity_date,
            comment=body.comment,
            actor=current_actor(),
        )
        return ok(documents.one(view), message="Certificate revoked")

    @api.post(
        "/<int:id>/unhold", summary="Lift a hold", responses={"200": Envelope[CertificateItem]}
    )
    @requires("write:certificates")
    def unhold_certificate(path: IdPath) -> Response:
        view = certificates.unhold(path.id, actor=current_actor())
        return ok(documents.one(view), message="Hold lifted")


def _keeping(
    api: APIBlueprint, certificates: CertificateService, documents: CertificateDocuments
) -> None:
    @api.patch("/<int:id>", summary="Rename", responses={"200": Envelope[CertificateItem]})
    @requires("write:certificates")
    def rename_certificate(path: IdPath, body: CertificateRenameBody) -> Response:
        view = certificates.rename(path.id, description=body.descr, actor=current_actor())
        return ok(documents.one(view), message="Certificate renamed")

    @api.delete("/<int:id>", summary="Delete the record", responses={"204": None})
    @requires("delete:certificates")
    def delete_certificate(path: IdPath) -> Response:
        certificates.delete(path.id, actor=current_actor())
        return no_content()

    @api.post(
        "/<int:id>/key",
        summary="Attach the private key",
        responses={"200": Envelope[CertificateItem]},
    )
    @requires("write:certificates")
    def attach_certificate_key(path: IdPath, body: KeyAttachBody) -> Response:
        view = certificates.attach_key(
            path.id, key=body.key, passphrase=body.passphrase, actor=current_actor()
        )
        return ok(documents.one(view), message="Private key attached")

    @api.post(
        "/import",
        summary="Import a certificate",
        description="A CA certificate becomes an authority; that needs `write:cas` as well.",
        responses={"201": Envelope[CertificateItem]},
    )
    @requires("write:certificates")
    def import_certificate(form: CertificateImportForm) -> Response:
        view = certificates.import_certificate(
            ImportOrder(
                content=form.content(),
                password=form.password,
                name=form.name,
                ca_id=form.ca_id,
                import_key=form.import_key,
                update_existing=form.update_existing,
            ),
            actor=current_actor(),
        )
        return created(
            documents.one(view), location=f"/api/v2/certificates/{view.id}", message="Imported"
        )


def _files(api: APIBlueprint, certificates: CertificateService) -> None:
    @api.get(
        "/<int:id>/export",
        summary="Download without a password",
        responses={"200": file_response(*_FILES), "409": conflict_response()},
    )
    @requires("read:certificates")
    def export_certificate(path: IdPath, query: ExportQuery) -> Response:
        request = query.export_request()
        return download(certificates.export(path.id, request, actor=current_actor()))

    @api.post(
        "/<int:id>/export",
        summary="Download, with a password for its key",
        responses={"200": file_response(*_FILES)},
    )
    @requires("read:certificates")
    def export_certificate_with_password(path: IdPath, body: ExportBody) -> Response:
        request = body.export_request()
        return download(certificates.export(path.id, request, actor=current_actor()))

    @api.get(
        "/export",
        summary="Download all certificates",
        responses={
            "200": file_response(_PEM, "application/x-pkcs7-certificates"),
            "409": conflict_response(),
        },
    )
    @requires("read:certificates")
    def export_all_certificates(query: ExportAllQuery) -> Response:
        return _export_many(certificates, None, format=query.format)

    @api.post(
        "/export",
        summary="Download all or selected certificates",
        responses={"200": file_response(_PEM, "application/x-pkcs7-certificates")},
    )
    @requires("read:certificates")
    def export_certificates(body: ExportManyBody) -> Response:
        return _export_many(certificates, body.ids, format=body.format)


def _export_many(
    certificates: CertificateService, ids: list[int] | None, *, format: str
) -> Response:
    if ids is None and format == "pem":
        parts = certificates.stream_pem(actor=current_actor())
        return stream(parts, filename="certificates.pem", media_type=_PEM)
    return download(certificates.export_many(ids, format=format, actor=current_actor()))


def _bulk(api: APIBlueprint, certificates: CertificateService) -> None:
    @api.post(
        "/bulk/export",
        summary="Download selected certificates",
        responses={"200": file_response(_PEM, "application/x-pkcs7-certificates")},
    )
    @requires("read:certificates")
    def bulk_export(body: BulkExportBody) -> Response:
        return _export_many(certificates, body.ids, format=body.format)

    @api.post("/bulk/revoke", summary="Revoke several", responses={"200": Envelope[BulkResult]})
    @requires("write:certificates")
    def bulk_revoke(body: BulkRevokeBody) -> Response:
        result = certificates.bulk_revoke(
            body.ids, reason=reason_of(body.reason), actor=current_actor()
        )
        return ok(bulk_json(result), message=f"{len(result.success)} certificates revoked")

    @api.post("/bulk/renew", summary="Renew several", responses={"200": Envelope[BulkSigned]})
    @requires("write:certificates")
    def bulk_renew(body: BulkIds) -> Response:
        result = certificates.bulk_renew(body.ids, actor=current_actor())
        return ok(
            bulk_json(result, made=True), message=f"{len(result.success)} certificates renewed"
        )

    @api.post("/bulk/delete", summary="Delete several", responses={"200": Envelope[BulkResult]})
    @requires("delete:certificates")
    def bulk_delete(body: BulkIds) -> Response:
        result = certificates.bulk_delete(body.ids, actor=current_actor())
        return ok(bulk_json(result), message=f"{len(result.success)} certificates deleted")
