"""Templates as JSON."""

from __future__ import annotations

from typing import Any

from ucm.services.templates import UsedTemplate
from ucm.web.envelope import timestamp


def template_json(used: UsedTemplate) -> dict[str, Any]:
    """A template with the number of certificates that were made by it."""
    template = used.template
    return {
        "id": template.id,
        "name": template.name,
        "description": template.description,
        "template_type": template.template_type,
        "key_type": template.key_type,
        "validity_days": template.validity_days,
        "digest": template.digest,
        "dn_template": dict(template.dn_template),
        "extensions_template": dict(template.extensions_template),
        "is_system": template.is_system,
        "is_active": template.is_active,
        "ad_derived_subject": template.ad_derived_subject,
        "autoenroll_enabled": template.autoenroll_enabled,
        "allowed_ad_group": template.allowed_ad_group,
        "pinned_subject_fields": dict(template.pinned_subject_fields),
        "created_at": timestamp(template.created_at),
        "created_by": template.created_by,
        "updated_at": timestamp(template.updated_at),
        "updated_by": template.updated_by,
        "usage_count": used.usage_count,
    }


def pinnable_template_json(used: UsedTemplate) -> dict[str, Any]:
    """A template with its pin on the authority that was asked about."""
    pin = used.pin
    return {
        **template_json(used),
        "is_pinned": pin is not None,
        "pinned_at": None if pin is None else timestamp(pin.created_at),
        "pinned_by": None if pin is None else pin.created_by,
    }
