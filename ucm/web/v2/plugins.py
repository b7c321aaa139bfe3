"""``/plugins``: what is installed, how it does, and the settings of each."""

from __future__ import annotations

import dataclasses
from typing import Any

from flask import Response
from flask_openapi3 import Tag
from pydantic import Field, RootModel

from ucm.api.web import current_actor, requires
from ucm.runtime.lifecycle import PluginHost
from ucm.runtime.settings import SettingField, SettingsRegistry
from ucm.web.blueprints import APIBlueprint
from ucm.web.envelope import ok
from ucm.web.requests import Path
from ucm.web.v2.core_schemas import ChangedItem, PluginItem, SettingItem
from ucm.web.v2.schemas import Envelope, ListEnvelope

_TAG = Tag(name="plugins", description="Plugins and their settings")
_NAME = r"^[a-z][a-z0-9]{1,15}$"


class PluginPath(Path):
    """A plugin's name."""

    name: str = Field(pattern=_NAME)


class SettingsBody(RootModel[dict[str, Any]]):
    """Values by field name; ``null`` goes back to the default."""


def setting_document(setting: SettingField) -> dict[str, Any]:
    """One setting; a secret shows only whether it is set."""
    return dataclasses.asdict(setting)


def blueprint(host: PluginHost, *, settings: SettingsRegistry) -> APIBlueprint:
    """Routes below ``/api/v2/plugins``."""
    api = APIBlueprint("plugins", __name__, url_prefix="/api/v2/plugins", abp_tags=[_TAG])

    @api.get(
        "", summary="Installed plugins with their states", responses={200: ListEnvelope[PluginItem]}
    )
    @requires("read:settings")
    def list_plugins() -> Response:
        return ok([dataclasses.asdict(state) for state in host.states()])

    @api.get(
        "/<string:name>/settings",
        summary="Settings of a plugin",
        responses={200: ListEnvelope[SettingItem]},
    )
    @requires("admin:settings")
    def get_settings(path: PluginPath) -> Response:
        return ok([setting_document(one) for one in settings.describe(path.name)])

    @api.patch(
        "/<string:name>/settings",
        summary="Change settings of a plugin",
        responses={200: Envelope[ChangedItem]},
    )
    @requires("admin:settings")
    def update_settings(path: PluginPath, body: SettingsBody) -> Response:
        changed = settings.update(path.name, body.root, actor=current_actor())
        return ok({"changed": list(changed)}, message="Settings saved")

    return api
