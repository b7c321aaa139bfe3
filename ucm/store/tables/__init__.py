"""Every table of the core, on the shared ``MetaData``: importing this package registers them."""

from ucm.store.tables.columns import TABLE_PREFIX
from ucm.store.tables.identity import (
    api_key,
    group,
    group_member,
    role,
    session,
    user,
)
from ucm.store.tables.operations import (
    audit,
    counter,
    job,
    job_lease,
    job_run,
    outbox,
    plugin,
    secret_canary,
    setting,
)
from ucm.store.tables.pki import (
    ca,
    ca_template_pin,
    certificate,
    certificate_term,
    csr,
    deleted_certificate,
    held_request,
    intent,
    key,
    template,
)

__all__ = [
    "TABLE_PREFIX",
    "api_key",
    "audit",
    "ca",
    "ca_template_pin",
    "certificate",
    "certificate_term",
    "counter",
    "csr",
    "deleted_certificate",
    "group",
    "group_member",
    "held_request",
    "intent",
    "job",
    "job_lease",
    "job_run",
    "key",
    "outbox",
    "plugin",
    "role",
    "secret_canary",
    "session",
    "setting",
    "template",
    "user",
]
