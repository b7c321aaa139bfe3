"""Dropping a plugin's tables, keys, settings and jobs for good, unless something needs them."""

from __future__ import annotations

from sqlalchemy import Engine

from ucm.api.actor import Actor
from ucm.api.contributions import Blocker
from ucm.api.errors import Conflict, FieldError, KeyUnavailable, NotFound
from ucm.api.services import Target
from ucm.runtime.lifecycle import PluginHost
from ucm.runtime.registry import Plugin, State
from ucm.services.keys import KeyService
from ucm.store import migrate
from ucm.store.uow import UnitOfWork


def purge(
    name: str,
    *,
    host: PluginHost,
    uow: UnitOfWork,
    keys: KeyService,
    engine: Engine,
    actor: Actor,
) -> None:
    """Drop a plugin's data, its own private keys included. The plugin stops in this process; other
    processes must not run it.

    Raises ``NotFound`` for a plugin that is not installed, ``Conflict`` when it does not run here
    (its own code must say that its data is not needed, and how to undo its migrations) or names
    a reason against it.
    """
    plugin = host.registry.get(name)
    if plugin is None:
        raise NotFound(f"There is no plugin {name!r}.", hint="See: ucm plugins list")
    if plugin.state is not State.RUNNING or plugin.manifest is None:
        raise Conflict(
            f"The plugin {name!r} is {plugin.state.value} here, and only a running plugin can say "
            f"whether its data is still needed. {plugin.reason}".rstrip(),
            hint="Enable it in UCM_PLUGINS for this command.",
        )
    blockers = [
        *_of_core(plugin, host=host, uow=uow),
        *_of_keys(plugin, host=host, uow=uow),
        *_of_plugin(plugin, host=host),
    ]
    if blockers:
        raise Conflict(
            f"The data of {name!r} is still needed: {'; '.join(b.detail for b in blockers)}",
            hint="Resolve each of these first.",
            fields=[FieldError("", "blocked", blocker.detail) for blocker in blockers],
        )
    migrations, prefix = plugin.contributions.migrations, plugin.manifest.table_prefix
    jobs = [job.id for job in plugin.contributions.jobs]
    host.stop_one(plugin)
    if migrations is not None:
        migrate.downgrade_owner(engine, owner=name, prefix=prefix, package=migrations.package)
    with uow.begin(actor) as tx:
        tx.settings.delete_of_owner(name)
        for key in tx.keys.of_owner(name):
            keys.destroy(key.ref, tx=tx)
        for job_id in jobs:
            tx.jobs.forget(job_id)
        tx.plugins.forget(name)
        tx.audit("plugin_purged", target=Target("plugin", name, plugin.manifest.title))


def _of_keys(plugin: Plugin, *, host: PluginHost, uow: UnitOfWork) -> list[Blocker]:
    """Its keys that others need, or that cannot be destroyed now."""
    if plugin.manifest is None:
        return []
    with uow.read() as reader:
        uses = reader.keys.uses_of_owner(plugin.name, apart_from=plugin.manifest.table_prefix)
        kinds = {key.record.backend for key in reader.keys.of_owner(plugin.name)}
    found = [Blocker(f"{number} of its keys are used in {table}") for table, number in uses.items()]
    for kind in sorted(kinds):
        try:
            host.key_backend(kind)
        except KeyUnavailable:
            found.append(Blocker(f"its keys in the key backend {kind!r}, which does not run"))
    return found


def _of_core(plugin: Plugin, *, host: PluginHost, uow: UnitOfWork) -> list[Blocker]:
    with uow.read() as reader:
        counts = reader.keys.counts_by_backend()
    found = [
        Blocker(f"{counts[backend.kind]} keys live in its key backend {backend.kind!r}")
        for backend in plugin.contributions.key_backends
        if counts.get(backend.kind)
    ]
    found += [
        Blocker(f"the plugin {other.name!r} requires it")
        for other in host.registry.alive()
        if other.manifest is not None and plugin.name in other.manifest.requires
    ]
    return found


def _of_plugin(plugin: Plugin, *, host: PluginHost) -> list[Blocker]:
    outcome = host.dispatcher.collect(plugin, "ucm_before_purge", ctx=plugin.context)
    if outcome.error is not None:
        raise Conflict(
            f"The plugin {plugin.name!r} could not say whether its data is still needed.",
            hint="The cause is in the log; nothing was dropped.",
        ) from outcome.error
    blockers = list(outcome.value or ())
    if not all(isinstance(item, Blocker) for item in blockers):
        raise Conflict(f"The plugin {plugin.name!r} answered ucm_before_purge with other things.")
    return blockers
