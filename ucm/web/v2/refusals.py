"""Refusals of what somebody wanted to have issued or kept are written to the audit log."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from flask import request
from flask.typing import RouteCallable
from flask_openapi3 import Tag

from ucm.api.errors import Busy, NotFound, StorageFailed, UcmError
from ucm.api.services import Target
from ucm.api.web import current_actor
from ucm.services.audit import AuditService
from ucm.web.blueprints import APIBlueprint

_READING = frozenset({"GET", "HEAD"})


class AuditedBlueprint(APIBlueprint):
    """A blueprint whose changing views leave an audit row when they refuse, bodies that do not
    parse included. Refusals that the issuance pipeline has already noted are not noted again.
    """

    def __init__(
        self, name: str, *, audit: AuditService, action: str, tag: Tag, prefix: str | None = None
    ) -> None:
        super().__init__(name, __name__, url_prefix=prefix or f"/api/v2/{name}", abp_tags=[tag])
        self._audit = audit
        self._action = action

    def add_url_rule(
        self,
        rule: str,
        endpoint: str | None = None,
        view_func: RouteCallable | None = None,
        provide_automatic_options: bool | None = None,
        **options: Any,
    ) -> None:
        """Register a view, wrapped when it changes something."""
        methods = {method.upper() for method in options.get("methods") or ("GET",)}
        if view_func is not None and not methods <= _READING:
            view_func = self._noting(view_func)
        super().add_url_rule(rule, endpoint, view_func, provide_automatic_options, **options)

    def _noting(self, view: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(view)
        def noted(**arguments: Any) -> Any:
            try:
                return view(**arguments)
            except (NotFound, StorageFailed, Busy):
                raise
            except UcmError as error:
                if not error.audited:
                    self._note(error)
                raise

        return noted

    def _note(self, error: UcmError) -> None:
        self._audit.refused(
            current_actor(),
            action=self._action,
            target=Target(self.name, (request.view_args or {}).get("id")),
            error=error,
            request=f"{request.method} {request.path}",
        )
        error.audited = True
