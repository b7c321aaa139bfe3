"""What the host finds: one key backend."""

from collections.abc import Iterable

from ucm.api import PluginContext, PluginManifest, Stability, hookimpl
from ucm.api.keys import KeyBackend
from ucm_softkeys.backend import SoftKeyBackend

MANIFEST = PluginManifest(
    name="softkeys",
    title="Software keys",
    summary="Private keys in the database, sealed under the master key and used in this process.",
    api=">=1.0,<2",
    table_prefix="sk_",
    docs="plugins/softkeys/README.md",
    stability=Stability.STABLE,
)


class SoftkeysPlugin:
    """The plugin object behind the entry point."""

    manifest = MANIFEST

    @hookimpl
    def ucm_key_backends(self, ctx: PluginContext) -> Iterable[KeyBackend] | None:
        """Offer the one backend of this plugin."""
        return [SoftKeyBackend(ctx.sealer)]
