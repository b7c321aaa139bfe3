"""A plugin that kills the whole server at a chosen step of an issuance, as a power failure would.

It notes every step of the request it watches: hooks, lints, key use and each SQL statement and
commit. ``KILLER_PLAN`` names a file: empty means "note the steps in <file>.trace"; a number means
"kill when that many steps were passed".
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from cryptography import x509
from sqlalchemy import Engine, event

from ucm.api import PluginContext, PluginManifest, hookimpl
from ucm.api.actor import Actor
from ucm.api.events import CertificateIssued
from ucm.api.issuance import CertificateDraft, Denial, DraftPatch, Hold, IssuanceRequest
from ucm.api.keys import KeyPurpose, KeyRef
from ucm.api.lint import Lint, LintFinding
from ucm.api.views import CaView

PLAN = Path(os.environ["KILLER_PLAN"])
watched = threading.local()


def step(label: str) -> None:
    """Note the step, or die there."""
    if not getattr(watched, "steps", None) or not PLAN.exists():
        return
    count = watched.steps
    watched.steps += 1
    plan = PLAN.read_text().strip()
    if not plan:
        with PLAN.with_suffix(".trace").open("a") as trace:
            trace.write(f"{count} {label}\n")
    elif int(plan) == count:
        PLAN.unlink()
        PLAN.with_suffix(".died").write_text(label)
        os.killpg(os.getpgid(0), signal.SIGKILL)


class KillerPlugin:
    """Hooks at every step."""

    manifest = PluginManifest(
        name="killer",
        title="Killer",
        summary="Kills the server at a chosen step.",
        api=">=1.0,<2",
        table_prefix="killer_",
    )

    @hookimpl
    def ucm_start(self, ctx: PluginContext) -> None:
        event.listen(Engine, "before_cursor_execute", self.before_sql)
        event.listen(Engine, "commit", self.before_commit)

    @staticmethod
    def before_sql(connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
        step(f"before {' '.join(statement.split()[:3])}")

    @staticmethod
    def before_commit(connection: Any) -> None:
        step("before commit")

    @hookimpl
    def ucm_before_issue(
        self, request: IssuanceRequest, actor: Actor, ca: CaView | None
    ) -> Iterable[Denial | Hold] | None:
        if ca is not None and "watched" in request.description:
            watched.steps = 1
            step("ucm_before_issue")
        return None

    @hookimpl
    def ucm_amend_draft(
        self, draft: CertificateDraft, request: IssuanceRequest, ca: CaView | None
    ) -> DraftPatch | None:
        step("ucm_amend_draft")
        return None

    @hookimpl
    def ucm_check_draft(
        self, draft: CertificateDraft, request: IssuanceRequest, ca: CaView | None
    ) -> Iterable[Denial] | None:
        step("ucm_check_draft")
        return None

    @hookimpl
    def ucm_lints(self, ctx: PluginContext) -> Iterable[Lint] | None:
        def check(certificate: x509.Certificate, draft: CertificateDraft) -> list[LintFinding]:
            step("lint")
            return []

        return [Lint("killer_lint", "none", check)]

    @hookimpl
    def ucm_before_key_use(
        self, ref: KeyRef, purpose: KeyPurpose, actor: Actor
    ) -> Iterable[Denial] | None:
        step("ucm_before_key_use")
        return None

    @hookimpl
    def ucm_after_issue(self, event: CertificateIssued) -> None:
        step("ucm_after_issue")
        watched.steps = 0


plugin = KillerPlugin()
