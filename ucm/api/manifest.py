"""What a plugin says about itself before any of its code runs."""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass

from packaging.specifiers import InvalidSpecifier, SpecifierSet

from ucm.api.issuance import Operation

API_VERSION = "1.0"
"""Version of ``ucm.api``. Minor: additions only. Major: removals and changes of meaning."""

_NAME = re.compile(r"[a-z][a-z0-9]{1,15}")
_TABLE_PREFIX = re.compile(r"[a-z][a-z0-9]{0,15}_")


class Stability(enum.Enum):
    """How much a deployer may rely on a plugin."""

    EXPERIMENTAL = "experimental"
    STABLE = "stable"
    DEPRECATED = "deprecated"


class ManifestError(ValueError):
    """A manifest contradicts itself or the rules of this class."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PluginManifest:
    """Identity and claims of a plugin; the host compares every claim with what the plugin does.

    Raises ``ManifestError`` when a claim is malformed.
    """

    name: str
    """Equals the entry-point name: ``[a-z][a-z0-9]{1,15}``."""
    title: str
    summary: str
    api: str
    """Packaging specifier over ``API_VERSION``, for example ``>=1.0,<2``."""
    table_prefix: str
    """Unique prefix of every table the plugin owns, for example ``acme_``."""
    url_prefixes: tuple[str, ...] = ()
    """Only these may be routed; overlap between plugins is refused."""
    permission_namespace: str = ""
    """``acme`` for ``read:acme``; empty: the plugin brings no permissions."""
    requires: tuple[str, ...] = ()
    """Plugins that must be running."""
    after: tuple[str, ...] = ()
    """Plugins that start earlier when they are enabled; order only."""
    needs_core_schema: str | None = None
    guards: frozenset[Operation] = frozenset()
    """Operations that must stop when this plugin is enabled and not running."""
    extra: str | None = None
    """The pip extra that brings its third-party packages."""
    docs: str = ""
    stability: Stability = Stability.EXPERIMENTAL

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ManifestError(f"name {self.name!r} must match {_NAME.pattern}")
        if not _TABLE_PREFIX.fullmatch(self.table_prefix) or self.table_prefix == "core_":
            raise ManifestError(
                f"table_prefix {self.table_prefix!r} must be like 'acme_', not 'core_'"
            )
        for prefix in self.url_prefixes:
            if not prefix.startswith("/") or prefix.endswith("/") or len(prefix) < 2:
                raise ManifestError(
                    f"url prefix {prefix!r} must start with '/' and not end with it"
                )
            if "<" in prefix or ">" in prefix:  # a variable would claim other plugins' paths
                raise ManifestError(
                    f"url prefix {prefix!r} must be a fixed path, without '<' or '>'"
                )
        try:
            SpecifierSet(self.api)
        except InvalidSpecifier:
            raise ManifestError(f"api {self.api!r} is not a version specifier") from None

    def accepts_api(self, version: str = API_VERSION) -> bool:
        """Whether this plugin was written for that version of the plugin API."""
        return SpecifierSet(self.api).contains(version)
