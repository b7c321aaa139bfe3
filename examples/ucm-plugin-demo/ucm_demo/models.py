"""The plugin's one table."""

from datetime import datetime

from sqlalchemy import Integer, Text
from sqlalchemy.orm import Mapped, mapped_column

from ucm.api.db import UtcDateTime, plugin_base

Base = plugin_base("demo_")


class DeniedName(Base):  # type: ignore[valid-type,misc]  # mypy cannot follow a made base
    """A domain for which nothing is issued, subdomains included."""

    __tablename__ = "demo_denied_name"

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    domain: Mapped[str] = mapped_column(Text, unique=True)
    reason: Mapped[str] = mapped_column(Text)
    created_by: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    expires_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
