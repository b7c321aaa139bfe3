"""Issuances that never finished: a remote key may have signed what was never stored."""

from __future__ import annotations

import logging
from datetime import timedelta

from ucm.api.actor import Actor, ActorKind
from ucm.api.errors import Conflict
from ucm.api.services import Clock, Target
from ucm.store.uow import UnitOfWork

log = logging.getLogger("ucm.issuance")

PATIENCE = timedelta(minutes=10)
"""How long a signature may take before its issuance counts as lost."""


def settle_unfinished(*, uow: UnitOfWork, clock: Clock) -> int:
    """Mark intents older than ``PATIENCE`` as orphaned; returns how many.

    The signature may exist at the key's side although UCM never got it, so that the serial stays
    reserved and the bytes that were to be signed stay on record. Safe to run again and at the same
    time in several processes.
    """
    actor = Actor.system("recovery", kind=ActorKind.JOB)
    with uow.read() as reader:
        unfinished = reader.intents.unfinished(before=clock.now() - PATIENCE)
    settled = 0
    for intent in unfinished:
        try:
            with uow.begin(actor) as tx:
                tx.intents.orphaned(
                    intent.id, reason="not finished in time; it may have been signed"
                )
                tx.audit(
                    "certificate_recovered",
                    target=Target("intent", intent.id, intent.subject),
                    success=False,
                    ca_id=intent.ca_id,
                    serial=intent.serial,
                    origin=intent.origin,
                    state="orphaned",
                )
        except Conflict:
            continue  # finished meanwhile, or another process was quicker
        settled += 1
        log.warning(
            "issuance of serial %s by authority %s never finished; the serial stays reserved",
            intent.serial,
            intent.ca_id,
        )
    return settled
