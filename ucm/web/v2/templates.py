"""``/templates``: certificate templates."""

from __future__ import annotations

import json
from typing import Any

from flask import Response
from flask_openapi3 import Tag
from pydantic import ValidationError

from ucm.api.errors import Invalid
from ucm.api.web import current_actor, requires
from ucm.services.audit import AuditService
from ucm.services.exports import ExportedFile, file_stem
from ucm.services.templates import TemplateFields, TemplateService, UsedTemplate
from ucm.web.blueprints import APIBlueprint
from ucm.web.envelope import created, no_content, ok, page_meta
from ucm.web.requests import IdPath, invalid_from
from ucm.web.v2.bodies.common import BulkIds
from ucm.web.v2.bodies.templates import (
    ImportedTemplate,
    TemplateCreateBody,
    TemplateDuplicateBody,
    TemplateImportForm,
    TemplateListQuery,
    TemplateUpdateBody,
)
from ucm.web.v2.documents.bulk import bulk_json
from ucm.web.v2.documents.templates import pinnable_template_json, template_json
from ucm.web.v2.downloads import download
from ucm.web.v2.refusals import AuditedBlueprint
from ucm.web.v2.schemas import (
    BulkResult,
    Envelope,
    ListEnvelope,
    PinnableTemplate,
    TemplateImportResult,
    TemplateItem,
    missing_response,
)

_TAG = Tag(name="templates", description="Certificate templates")
_JSON = "application/json"
_EXPORTED_ALL = {
    "description": "The templates",
    "content": {_JSON: {"schema": {"type": "array", "items": {"type": "object"}}}},
}
_EXPORTED_ONE = {
    "description": "The template",
    "content": {_JSON: {"schema": {"type": "object"}}},
}
_MAX_TEMPLATES = 500


def blueprint(templates: TemplateService, *, audit: AuditService) -> APIBlueprint:
    """Routes below ``/api/v2/templates``."""
    api = AuditedBlueprint("templates", audit=audit, action="template_refused", tag=_TAG)
    _reading(api, templates)
    _changing(api, templates)
    _sharing(api, templates)
    return api


def _reading(api: APIBlueprint, templates: TemplateService) -> None:
    @api.get(
        "",
        summary="List templates",
        responses={"200": ListEnvelope[PinnableTemplate | TemplateItem], "404": missing_response()},
    )
    @requires("read:templates")
    def list_templates(query: TemplateListQuery) -> Response:
        paged = query.page is not None or query.per_page is not None
        page = templates.list(
            types=query.type,
            active=query.active,
            search=query.search or "",
            ca_id=query.ca_id,
            page=query.page or 1,
            per_page=query.per_page or 20 if paged else None,
        )
        render = template_json if query.ca_id is None else pinnable_template_json
        rows = [render(used) for used in page.items]
        return ok(rows, meta=page_meta(page) if paged else None)

    @api.get("/<int:id>", summary="One template", responses={"200": Envelope[TemplateItem]})
    @requires("read:templates")
    def get_template(path: IdPath) -> Response:
        return ok(template_json(templates.get(path.id)))


def _changing(api: APIBlueprint, templates: TemplateService) -> None:
    @api.post("", summary="Create a template", responses={"201": Envelope[TemplateItem]})
    @requires("write:templates")
    def create_template(body: TemplateCreateBody) -> Response:
        return _created(templates.create(_fields(body), actor=current_actor()))

    @api.put(
        "/<int:id>",
        summary="Change a template",
        description="Left-out fields stay as they are.",
        responses={"200": Envelope[TemplateItem]},
    )
    @requires("write:templates")
    def update_template(path: IdPath, body: TemplateUpdateBody) -> Response:
        sent = body.model_dump(exclude_unset=True)
        changes = {
            name: value
            for name, value in sent.items()
            if value is not None or name == "allowed_ad_group"
        }
        used = templates.update(path.id, changes=changes, actor=current_actor())
        return ok(template_json(used), message="Template updated")

    @api.post(
        "/<int:id>/duplicate",
        summary="Copy a template",
        responses={"201": Envelope[TemplateItem]},
    )
    @requires("write:templates")
    def duplicate_template(path: IdPath, body: TemplateDuplicateBody) -> Response:
        return _created(templates.duplicate(path.id, name=body.name, actor=current_actor()))

    @api.delete("/<int:id>", summary="Delete a template", responses={"204": None})
    @requires("delete:templates")
    def delete_template(path: IdPath) -> Response:
        templates.delete(path.id, actor=current_actor())
        return no_content()

    @api.post("/bulk/delete", summary="Delete several", responses={"200": Envelope[BulkResult]})
    @requires("delete:templates")
    def bulk_delete_templates(body: BulkIds) -> Response:
        outcome = templates.bulk_delete(body.ids, actor=current_actor())
        return ok(bulk_json(outcome), message=f"{len(outcome.success)} templates deleted")


def _sharing(api: APIBlueprint, templates: TemplateService) -> None:
    @api.get(
        "/<int:id>/export",
        summary="Download one template",
        responses={"200": _EXPORTED_ONE},
    )
    @requires("read:templates")
    def export_template(path: IdPath) -> Response:
        stem = file_stem(templates.get(path.id).template.name)
        return download(ExportedFile(f"{stem}.json", _JSON, templates.export(path.id)))

    @api.get(
        "/export",
        summary="Download all that are no system templates",
        responses={"200": _EXPORTED_ALL},
    )
    @requires("read:templates")
    def export_templates() -> Response:
        return download(ExportedFile("templates.json", _JSON, templates.export()))

    @api.post(
        "/import",
        summary="Import templates",
        responses={"200": Envelope[TemplateImportResult]},
    )
    @requires("write:templates")
    def import_templates(form: TemplateImportForm) -> Response:
        result = templates.import_all(
            _read(form.content()), update_existing=form.update_existing, actor=current_actor()
        )
        return ok(
            {
                "imported": result.imported,
                "updated": result.updated,
                "skipped": result.skipped,
            },
            message=f"{len(result.imported)} templates imported",
        )


def _created(used: UsedTemplate) -> Response:
    return created(template_json(used), location=f"/api/v2/templates/{used.template.id}")


def _fields(body: TemplateCreateBody) -> TemplateFields:
    return TemplateFields(**body.model_dump())


def _read(content: bytes) -> list[TemplateFields]:
    """Templates of an import file, each checked like a body. Raises ``Invalid``."""
    try:
        document: Any = json.loads(content)
    except (ValueError, RecursionError):
        raise Invalid.field("/file", "malformed-json", "The file is not JSON (RFC 8259).") from None
    entries = document if isinstance(document, list) else [document]
    if len(entries) > _MAX_TEMPLATES:
        raise Invalid.field(
            "/file", "too-many", f"At most {_MAX_TEMPLATES} templates are imported at once."
        )
    found = []
    for entry in entries:
        try:
            found.append(ImportedTemplate.model_validate(entry))
        except ValidationError as error:
            raise invalid_from(error, parameters=False) from None
    return [
        TemplateFields(**template.model_dump(include=set(TemplateFields.__slots__)))
        for template in found
    ]
