"""Hooks of schemathesis: an RSA-8192 key takes up to a minute; what it shows, RSA-2048 shows."""

from __future__ import annotations

from typing import Any

import schemathesis


@schemathesis.hook
def before_call(
    context: schemathesis.HookContext, case: schemathesis.Case, kwargs: dict[str, Any]
) -> None:
    """Ask for a quicker key of the same kind."""
    if isinstance(case.body, dict):
        for name, value in case.body.items():
            if value in ("RSA-8192", "RSA-4096"):
                case.body[name] = "RSA-2048"
            elif name in ("key_size", "keySize") and value in (8192, 4096, "8192", "4096"):
                case.body[name] = type(value)(2048)
