"""The core's lints: every rule of the profile that a draft could break, in the order they run."""

from ucm.issuance.lints import authority, basics, names, usages
from ucm.issuance.lints.reading import CoreLint, Reading, read

CORE_LINTS: tuple[CoreLint, ...] = (
    *basics.LINTS,
    *usages.LINTS,
    *names.LINTS,
    *authority.LINTS,
)
"""All findings of these have severity error."""

__all__ = ["CORE_LINTS", "CoreLint", "Reading", "read"]
