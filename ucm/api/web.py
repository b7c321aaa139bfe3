"""For routes: who may call a view, and who called it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from flask import request
from pydantic import BaseModel, ValidationError

from ucm.api.actor import Actor
from ucm.api.errors import FieldError, Invalid, Unauthenticated

View = TypeVar("View", bound=Callable[..., Any])
Body = TypeVar("Body", bound=BaseModel)

ACCESS_ATTRIBUTE = "__ucm_access__"
ACTOR_KEY = "ucm.actor"


@dataclass(frozen=True, slots=True)
class Access:
    """What a view demands: all ``permissions``, or merely a signed-in caller, or nothing
    (``public_reason``).
    """

    permissions: tuple[str, ...] = ()
    public_reason: str | None = None


def requires(*permissions: str) -> Callable[[View], View]:
    """The caller must hold all permissions; with none given, any signed-in caller may call the
    view.
    """

    def mark(view: View) -> View:
        setattr(view, ACCESS_ATTRIBUTE, Access(permissions=permissions))
        return view

    return mark


def public(reason: str) -> Callable[[View], View]:
    """Anyone may call the view; the reason is shown in the route table."""

    def mark(view: View) -> View:
        setattr(view, ACCESS_ATTRIBUTE, Access(public_reason=reason))
        return view

    return mark


def access_of(view: Callable[..., Any]) -> Access | None:
    """The declared access of a view, ``None`` when it has none (such a route is refused)."""
    return cast("Access | None", getattr(view, ACCESS_ATTRIBUTE, None))


def current_actor() -> Actor:
    """The authenticated caller of this request. Raises ``Unauthenticated`` when there is none."""
    actor = request.environ.get(ACTOR_KEY)
    if not isinstance(actor, Actor):
        raise Unauthenticated("Sign in or send an API key in X-API-Key.")
    return actor


def read_body(model: type[Body]) -> Body:
    """The request's JSON body as ``model``. Raises ``Invalid`` with a pointer per wrong field."""
    try:
        return model.model_validate(request.get_json())
    except ValidationError as error:
        fields = [
            FieldError(
                "".join(f"/{part}" for part in item["loc"]),
                item["type"].replace("_", "-"),
                item["msg"].removeprefix("Value error, "),
            )
            for item in error.errors(include_url=False, include_input=False)
        ]
        detail = "; ".join(f"{field.pointer or '/'}: {field.detail}" for field in fields)
        raise Invalid(detail, fields=fields) from None
