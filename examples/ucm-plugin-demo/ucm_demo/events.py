"""What happened, for other plugins."""

from dataclasses import dataclass
from typing import ClassVar

from ucm.api.events import Event


@dataclass(frozen=True, kw_only=True, slots=True)
class NameDenied(Event):
    """A domain was put on the list."""

    name: ClassVar[str] = "demo.name_denied"
    domain: str
    reason: str
