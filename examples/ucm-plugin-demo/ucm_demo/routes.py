"""``/api/v2/demo/denied-names``: read the request, call the list, render the answer."""

from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from flask import Blueprint
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from ucm.api.web import current_actor, read_body, requires
from ucm_demo.names import DeniedNames, Entry

PREFIX = "/api/v2/demo"


class DeniedNameBody(BaseModel):
    """A domain to deny."""

    model_config = ConfigDict(extra="forbid", strict=True)

    domain: str = Field(min_length=1, max_length=253)
    reason: str = Field(min_length=1, max_length=500)
    expires_at: AwareDatetime | None = Field(default=None, strict=False)


def blueprint(names: DeniedNames) -> Blueprint:
    """The routes; every view says who may call it."""
    routes = Blueprint("demo", __name__)

    @routes.get("/denied-names")
    @requires("read:demo")
    def list_names() -> dict[str, Any]:
        return {"data": [_document(entry) for entry in names.all()]}

    @routes.post("/denied-names")
    @requires("write:demo")
    def deny_name() -> tuple[dict[str, Any], int]:
        body = read_body(DeniedNameBody)
        entry = names.add(
            body.domain,
            reason=body.reason,
            expires_at=body.expires_at,
            actor=current_actor(),
        )
        return {"data": _document(entry), "message": "Name denied"}, 201

    @routes.delete("/denied-names/<int:entry_id>")
    @requires("delete:demo")
    def allow_name(entry_id: int) -> dict[str, Any]:
        names.remove(entry_id, actor=current_actor())
        return {"data": None, "message": "Name allowed"}

    return routes


def _document(entry: Entry) -> dict[str, Any]:
    return {**asdict(entry), "expires_at": _text(entry.expires_at)}


def _text(moment: datetime | None) -> str | None:
    return None if moment is None else moment.astimezone(UTC).isoformat()
