"""Blueprints whose part of the OpenAPI document is made when somebody asks for it.

Making the JSON schemas of every body and answer takes half a second, which each web process would
spend at its start.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flask_openapi3 import APIBlueprint as EagerBlueprint
from flask_openapi3.types import ParametersTuple
from flask_openapi3.utils import parse_parameters


class APIBlueprint(EagerBlueprint):
    """A blueprint of the core; create it with its ``url_prefix``."""

    def __init__(self, name: str, import_name: str, **options: Any) -> None:
        super().__init__(name, import_name, **options)
        self._undescribed: list[tuple[str, Callable[..., Any], dict[str, Any]]] = []

    def _collect_openapi_info(
        self, rule: str, func: Callable[..., Any], **options: Any
    ) -> ParametersTuple:
        self._undescribed.append((rule, func, options))
        return parse_parameters(func, doc_ui=False)

    def describe(self) -> None:
        """Fill ``paths``, ``components_schemas`` and ``tags``; does nothing the second time."""
        waiting, self._undescribed = self._undescribed, []
        for rule, func, options in waiting:
            super()._collect_openapi_info(rule, func, **options)
