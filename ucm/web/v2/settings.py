"""``/settings/general``: the core's settings."""

from __future__ import annotations

from typing import Any, cast

from flask import Response
from flask_openapi3 import Tag
from pydantic import SecretStr, create_model
from pydantic.fields import FieldInfo

from ucm.api.errors import Forbidden, Invalid
from ucm.api.web import current_actor, requires
from ucm.domain.settings import GeneralSettings
from ucm.runtime.settings import CORE, SettingsRegistry
from ucm.web.blueprints import APIBlueprint
from ucm.web.envelope import ok
from ucm.web.requests import Body
from ucm.web.v2.schemas import Envelope

_TAG = Tag(name="settings", description="Settings of the server")
_EVERYBODY = frozenset({"site_name", "timezone"})
SWITCH_OFF = "__disable__"
"""Value of ``metrics_token`` that switches ``/metrics`` off; an empty one keeps what is set."""


def _optional(info: FieldInfo) -> Any:
    """The field as it may be sent: its own bounds, or left out."""
    kind = str if info.annotation is SecretStr else info.annotation
    field = FieldInfo(default=None, description=info.description)
    field.metadata = list(info.metadata)
    return (kind | None, field)  # type: ignore[operator]


GeneralBody = cast(
    "type[Body]",
    create_model(
        "GeneralBody",
        __base__=Body,
        __doc__="What changes; ``null`` or left out stays.",
        **{name: _optional(info) for name, info in GeneralSettings.model_fields.items()},
    ),
)


def _document(settings: SettingsRegistry) -> dict[str, Any]:
    document: dict[str, Any] = {}
    for setting in settings.describe(CORE):
        if setting.secret:
            document[f"{setting.name}_set"] = setting.is_set
        else:
            document[setting.name] = setting.value
    return document


def blueprint(settings: SettingsRegistry) -> APIBlueprint:
    """Routes below ``/api/v2/settings``."""
    api = APIBlueprint("settings", __name__, url_prefix="/api/v2/settings", abp_tags=[_TAG])

    @api.get(
        "/general", summary="Settings of the server", responses={200: Envelope[dict[str, Any]]}
    )
    @requires("read:settings")
    def general() -> Response:
        locked = [one.name for one in settings.describe(CORE) if one.locked]
        return ok(_document(settings), meta={"locked": locked} if locked else None)

    @api.patch(
        "/general",
        summary="Change settings of the server",
        responses={200: Envelope[dict[str, Any]]},
    )
    @requires("write:settings")
    def update_general(body: GeneralBody) -> Response:  # type: ignore[valid-type]
        values = {
            name: value
            for name, value in cast("Body", body).model_dump(exclude_unset=True).items()
            if value is not None
        }
        if values.get("metrics_token") == "":
            del values["metrics_token"]
        elif values.get("metrics_token") == SWITCH_OFF:
            values["metrics_token"] = None
        if not values:
            raise Invalid("Nothing to change: every field is missing or null.")
        beyond = sorted(set(values) - _EVERYBODY)
        if beyond and not current_actor().may("admin:settings"):
            raise Forbidden(
                f"Only an administrator may change {', '.join(beyond)}.",
                hint="Nothing was changed.",
            )
        settings.update(CORE, values, actor=current_actor())
        return ok(_document(settings), message="Settings saved")

    return api
