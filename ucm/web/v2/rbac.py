"""``/rbac``: the roles and what they hold."""

from __future__ import annotations

from collections.abc import Callable

from flask import Response
from flask_openapi3 import Tag

from ucm.api.web import requires
from ucm.domain.rbac import ROLE_TITLES, Roles
from ucm.services.users import UserService
from ucm.web.blueprints import APIBlueprint
from ucm.web.envelope import ok
from ucm.web.requests import IdPath
from ucm.web.v2.core_schemas import EffectivePermissionsItem, RoleItem
from ucm.web.v2.schemas import Envelope, ListEnvelope

_TAG = Tag(name="rbac", description="Roles and permissions")


def blueprint(roles: Callable[[], Roles], *, users: UserService) -> APIBlueprint:
    """Routes below ``/api/v2/rbac``."""
    api = APIBlueprint("rbac", __name__, url_prefix="/api/v2/rbac", abp_tags=[_TAG])

    @api.get(
        "/roles",
        summary="The roles with their permissions",
        responses={200: ListEnvelope[RoleItem]},
    )
    @requires("read:users")
    def list_roles() -> Response:
        known = roles()
        counts = users.count_by_role()
        return ok(
            [
                {
                    "name": name,
                    "description": ROLE_TITLES.get(name, ""),
                    "permissions": sorted(known.permissions(name)),
                    "all_permissions": sorted(known.permissions(name)),
                    "is_system": True,
                    "user_count": counts.get(name, 0),
                }
                for name in known.names()
            ]
        )

    @api.get(
        "/permissions",
        summary="Every permission that a key can be given",
        responses={200: ListEnvelope[str]},
    )
    @requires()
    def list_permissions() -> Response:
        return ok(list(roles().known_permissions()))

    @api.get(
        "/effective-permissions/<int:id>",
        summary="What an account may do",
        responses={200: Envelope[EffectivePermissionsItem]},
    )
    @requires("read:users")
    def effective_permissions(path: IdPath) -> Response:
        user = users.get(path.id)
        return ok(
            {
                "user_id": user.id,
                "role": user.role,
                "permissions": sorted(roles().permissions(user.role)),
            }
        )

    return api
