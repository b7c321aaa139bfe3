"""The core's lints: every rule of the profile that a draft could break, in the order they run."""

from ucm.api.lint import Lint
from ucm.issuance.lints import authority, basics, names, usages

CORE_LINTS: tuple[Lint, ...] = (
    *basics.LINTS,
    *usages.LINTS,
    *names.LINTS,
    *authority.LINTS,
)
"""All findings of these have severity error."""

__all__ = ["CORE_LINTS"]
