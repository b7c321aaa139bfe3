"""The one way to a certificate: load, policy, profile, lint, sign, verify, store, publish."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Any, Self

from ucm.api.actor import Actor
from ucm.api.errors import (
    Busy,
    Conflict,
    LintFailed,
    PolicyDenied,
    StorageFailed,
    UcmError,
)
from ucm.api.issuance import (
    CertificateKind,
    Denial,
    ExtensionKind,
    Held,
    Hold,
    IssuanceRequest,
    IssuanceResult,
    IssuedCertificate,
    Operation,
    RevocationRequest,
)
from ucm.api.keys import KeyPurpose
from ucm.api.names import subject_text
from ucm.api.publickeys import spki_der
from ucm.api.services import Clock, Ids, OnStored, Target, Transaction
from ucm.api.views import CertificateView
from ucm.api.x509 import serial_text
from ucm.issuance import drafting, held, policy, records, revocation
from ucm.issuance.guards import Guards
from ucm.issuance.lint import Linter, SigningTicket
from ucm.issuance.loading import Issuers, Loaded, load
from ucm.issuance.profiles import Profiles
from ucm.issuance.signer import Signed, Signer
from ucm.store.certificates import NewCertificate
from ucm.store.intents import NewIntent
from ucm.store.requests import (
    FAILED,
    ISSUED,
    PENDING,
    REJECTED,
    HeldRequestRow,
    NewHeldRequest,
)
from ucm.store.uow import Reader, StoreTransaction, UnitOfWork

Adopt = Callable[[Transaction, IssuedCertificate, IssuanceRequest], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Case:
    """One request on its way: who asks, what it waits as (if held), and what was read for it."""

    request: IssuanceRequest
    actor: Actor
    loaded: Loaded
    waiting: HeldRequestRow | None = None
    resumed_by: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Ready:
    """A case that may be signed."""

    case: _Case
    ticket: SigningTicket
    adjustments: list[str]


class _Claim:
    """Keeps an error of the claimant for later instead of letting it undo the certificate.

    A signed certificate is never lost to the bug of a plugin: the error reaches the caller after
    the commit.
    """

    def __init__(self) -> None:
        self.error: Exception | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        if isinstance(error, (StorageFailed, Busy)) or not isinstance(error, Exception):
            return False  # the unit itself is gone, or the process ends
        self.error = error
        return True


@dataclass(frozen=True, kw_only=True)
class Pipeline:
    """Implements ``ucm.api.services.Issuance``. Thread-safe.

    Not to be called within a write unit: it begins its own, so that nothing is stored halfway.
    """

    uow: UnitOfWork
    guards: Guards
    signer: Signer
    linter: Linter
    profiles: Profiles
    clock: Clock
    ids: Ids
    extensions: Callable[[], Iterable[ExtensionKind]] = tuple
    adopt: Adopt | None = None
    """Runs in the unit that stores what was resumed: who asked is not there to claim it."""
    _issuers: Issuers = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_issuers", Issuers(self.clock))

    # --- issue ---------------------------------------------------------------------------------

    def issue(
        self, request: IssuanceRequest, *, actor: Actor, on_stored: OnStored | None = None
    ) -> IssuanceResult:
        """Issue or hold; a second request with the same origin kind and idempotency key gets the
        first one's result.

        ``on_stored`` runs in the storing unit; when it raises, the certificate stays stored as
        ``issued_unclaimed`` and its error rises after the commit. A refusal is audited; nothing is
        signed then.
        """
        with self._refusals_audited(request, actor):
            self.guards.require(Operation.ISSUE)
            with self.uow.read() as reader:
                known = self._answered(request, reader=reader)
                if known is not None:
                    return known
                case = _Case(request=request, actor=actor, loaded=self._load(request, reader))
            return self._run(case, on_stored=on_stored)

    def resume(
        self,
        request_id: int,
        *,
        actor: Actor,
        approvals: tuple[int, ...] = (),
        on_stored: OnStored | None = None,
    ) -> IssuanceResult:
        """Start a held request again from the first step, with the approvals it has by now and the
        given ones, which are the deciding plugin's own ids.

        It is judged as its requester's; ``actor`` is who resumes it. Raises ``NotFound``,
        ``Conflict`` when it was decided otherwise, and whatever ``issue`` raises.
        """
        with self.uow.read() as reader:
            row = reader.requests.get(request_id)
            if row.state == ISSUED and row.certificate_id is not None:
                return records.issued_of(reader.certificates.get(row.certificate_id))
        if row.state != PENDING or row.operation != "issue":
            raise Conflict(f"The request is already {row.state}.")
        if approvals:
            with self.uow.begin(actor) as tx:
                for approval in approvals:
                    row = tx.requests.approve(row.id, approval=approval)
        request = held.load_request(row.payload["request"], approvals=row.approvals)
        requester = held.load_actor(row.payload["actor"])
        try:
            with self._refusals_audited(request, requester):
                self.guards.require(Operation.ISSUE)
                with self.uow.read() as reader:
                    loaded = self._load(request, reader)
                case = _Case(
                    request=request,
                    actor=requester,
                    loaded=loaded,
                    waiting=row,
                    resumed_by=actor.name,
                )
                return self._run(case, on_stored=self._adopting(request, on_stored))
        except (PolicyDenied, LintFailed) as error:
            with self.uow.begin(actor) as tx:
                tx.requests.resolve(row.id, state=FAILED, reason=error.detail)
            raise

    def _adopting(self, request: IssuanceRequest, on_stored: OnStored | None) -> OnStored | None:
        adopt = self.adopt
        if adopt is None:
            return on_stored

        def stored(tx: Transaction, issued: IssuedCertificate) -> None:
            adopt(tx, issued, request)
            if on_stored is not None:
                on_stored(tx, issued)

        return stored

    def reject(self, request_id: int, *, actor: Actor, reason: str) -> None:
        """Decide against a held request. Raises ``NotFound``, ``Conflict`` when it was decided."""
        with self.uow.begin(actor) as tx:
            row = tx.requests.get(request_id)
            tx.requests.resolve(request_id, state=REJECTED, reason=reason)
            tx.audit(
                "certificate_refused",
                target=Target("request", request_id, row.subject),
                success=False,
                origin=row.origin,
                ca_id=row.ca_id,
                error="rejected",
                detail=reason,
            )

    def _load(self, request: IssuanceRequest, reader: Reader) -> Loaded:
        return load(request, reader=reader, profiles=self.profiles, issuers=self._issuers)

    def _answered(
        self, request: IssuanceRequest, *, reader: Reader | StoreTransaction
    ) -> IssuanceResult | None:
        """What the same request was answered before."""
        key, origin = request.idempotency_key, request.origin.kind
        if key is None:
            return None
        view = reader.certificates.by_idempotency_key(origin, key)
        if view is not None:
            _check_same(request, view)
            return records.issued_of(view)
        row = reader.requests.by_idempotency_key(origin, key)
        if row is None:
            return None
        if row.state == PENDING:
            return Held(row.id, row.reason)
        raise Conflict(
            f"The request with this idempotency key was {row.state}.",
            hint="Make a new request with a new key.",
        )

    def _run(self, case: _Case, *, on_stored: OnStored | None) -> IssuanceResult:
        ready = self._decide(case)
        if isinstance(ready, Hold):
            return self._hold(case, ready)
        key = case.loaded.key
        if self.signer.is_local(key):
            # What was signed and not committed never left the process, so that no intent is needed;
            # signing first keeps the write unit, which all requests share, short.
            signed = self.signer.sign(ready.ticket, key=key, actor=case.actor)
            return self._store(ready, signed, on_stored=on_stored)
        intent_id = self._reserve(ready)
        try:
            signed = self.signer.sign(ready.ticket, key=key, actor=case.actor)
        except UcmError as error:
            with self.uow.begin(case.actor) as tx:
                tx.intents.failed(intent_id, reason=error.detail)
            raise
        return self._store(ready, signed, on_stored=on_stored, intent_id=intent_id)

    # --- decide --------------------------------------------------------------------------------

    def _decide(self, case: _Case) -> _Ready | Hold:
        """Steps 2 to 5. Raises ``PolicyDenied`` with every reason, ``LintFailed``, ``Invalid``."""
        request, actor, loaded = case.request, case.actor, case.loaded
        ca = loaded.issuer.ca if loaded.issuer else None
        now = self.clock.now()
        policy.check_permission(loaded.profile, actor)
        if loaded.subject_key is not None:
            self.signer.check_belongs(loaded.subject_key, public_key=loaded.public_key)
        applicant = drafting.Applicant(
            request=request,
            profile=loaded.profile,
            public_key=loaded.public_key,
            key_spec=loaded.key_spec,
            enrollee=policy.is_enrollee(request, actor),
        )
        reasons = list(
            policy.denials(
                applicant,
                compromised=loaded.compromised,
                issuer=loaded.issuer,
                now=now,
            )
        )
        if any(reason.code == policy.ISSUER_EXPIRED for reason in reasons):
            raise PolicyDenied(reasons)  # no draft can be made then, and none is needed to refuse
        outcome = drafting.compose(
            applicant, issuer=loaded.issuer, serial=self.ids.serial(), now=now
        )
        refused, tolerated = policy.constraint_denials(
            outcome.draft, issuer=loaded.issuer, renewed=loaded.renewed
        )
        outcome.adjustments += [f"name constraint tolerated: {v.name}" for v in tolerated]
        answers = self.guards.before_issue(request, actor, ca)
        reasons += [*outcome.denials, *refused, *(a for a in answers if isinstance(a, Denial))]
        if reasons:
            raise PolicyDenied(reasons)
        registered = {kind.oid: kind for kind in self.extensions()}
        outcome = drafting.with_requested(outcome, request, registered)
        patches = self.guards.amend_draft(outcome.draft, request, ca)
        outcome = drafting.amended(outcome, patches, registered=registered, now=now)
        reasons = [*outcome.denials, *self.guards.check_draft(outcome.draft, request, ca)]
        if reasons:
            raise PolicyDenied(reasons)
        issuer_name = loaded.issuer.subject_der if loaded.issuer else None
        ticket = self.linter.examine(outcome.draft, issuer=issuer_name)
        # Asked last, so that nobody is asked to approve what could not be issued anyway.
        hold = next((a for a in answers if isinstance(a, Hold)), None)
        if hold is not None:
            return hold
        return _Ready(case=case, ticket=ticket, adjustments=outcome.adjustments)

    # --- store ---------------------------------------------------------------------------------

    def _store(
        self,
        ready: _Ready,
        signed: Signed,
        *,
        on_stored: OnStored | None,
        intent_id: int | None = None,
    ) -> IssuedCertificate:
        """One unit: certificate, key, audit row, event, intent, and the claimant's own rows."""
        case = ready.case
        new = records.new_certificate(
            case.request,
            draft=ready.ticket.draft,
            signed=signed,
            loaded=case.loaded,
            refid=self.ids.new_id(),
        )
        # Made before the unit, which is shared with others and kept short.
        facts = _audit_facts(ready)
        claim = _Claim()
        try:
            with self.uow.begin(case.actor) as tx:
                issued = self._write(ready, new, facts, tx=tx, intent_id=intent_id)
                if on_stored is not None:
                    with claim, tx.savepoint():
                        on_stored(tx, issued)
                    if claim.error is not None:
                        issued = replace(issued, claimed=False)
                        tx.certificates.set_state(issued.id, state=records.UNCLAIMED)
        except Conflict:
            # Somebody else answered the same request meanwhile: both get that certificate. Looked
            # up in a write unit, because the other one may wait in the very same commit.
            with self.uow.begin(case.actor) as tx:
                known = self._answered(case.request, reader=tx)
            if isinstance(known, IssuedCertificate):
                return known
            raise
        if claim.error is not None:
            raise claim.error
        return issued

    def _write(
        self,
        ready: _Ready,
        new: NewCertificate,
        facts: dict[str, Any],
        *,
        tx: StoreTransaction,
        intent_id: int | None,
    ) -> IssuedCertificate:
        case, draft = ready.case, ready.ticket.draft
        request, key = case.request, case.request.key
        if request.new_key is not None:
            purpose = KeyPurpose.CA if draft.is_ca else KeyPurpose.SUBJECT
            key = tx.keys.add(request.new_key, purpose=purpose, label=records.title_of(draft))
            new = replace(new, key_id=key.id)
        view = tx.certificates.added(new, key=key)
        action = "certificate_renewed" if request.renews is not None else "certificate_created"
        title = view.common_name or records.title_of(draft)
        tx.audit(action, target=Target("certificate", view.id, title), **facts)
        tx.emit(records.event_of(request, view))
        if intent_id is not None:
            tx.intents.done(intent_id, certificate_id=view.id)
        if case.waiting is not None:
            tx.requests.resolve(case.waiting.id, state=ISSUED, certificate_id=view.id)
        return records.issued_of(view)

    def _reserve(self, ready: _Ready) -> int:
        """T1: the serial and the bytes to be signed are durable before a remote key signs them."""
        request, draft = ready.case.request, ready.ticket.draft
        facts = records.facts_of(request, draft=draft, adjustments=ready.adjustments)
        new = NewIntent(
            ca_id=request.ca_id,
            serial=serial_text(draft.serial),
            origin=request.origin.kind,
            client=request.origin.client,
            idempotency_key=request.idempotency_key,
            subject=subject_text(draft.subject),
            request_digest=held.digest(facts),
            request=facts,
            tbs=ready.ticket.tbs,
        )
        with self.uow.begin(ready.case.actor) as tx:
            return tx.intents.open(new)

    def _hold(self, case: _Case, hold: Hold) -> Held:
        request = case.request
        with self.uow.begin(case.actor) as tx:
            if case.waiting is not None:
                tx.requests.hold_again(case.waiting.id, reason=hold.reason, policy=hold.policy)
                return Held(case.waiting.id, hold.reason)
            if request.new_key is not None:
                is_ca = case.loaded.profile.kind is not CertificateKind.END_ENTITY
                purpose = KeyPurpose.CA if is_ca else KeyPurpose.SUBJECT
                ref = tx.keys.add(request.new_key, purpose=purpose, label=request.description)
                request = replace(request, new_key=None, key=ref)
            subject = request.subject
            if subject is None and request.csr is not None:
                subject = request.csr.subject
            request_id = tx.requests.add(
                NewHeldRequest(
                    refid=self.ids.new_id(),
                    operation="issue",
                    origin=request.origin.kind,
                    client=request.origin.client,
                    idempotency_key=request.idempotency_key,
                    payload={
                        "request": held.dump_request(request),
                        "actor": held.dump_actor(case.actor),
                    },
                    subject=subject_text(subject) if subject is not None else "",
                    reason=hold.reason,
                    policy=hold.policy,
                    ca_id=request.ca_id,
                )
            )
            tx.audit(
                "certificate_held",
                target=Target("request", request_id, request.description),
                origin=str(request.origin),
                ca_id=request.ca_id,
                reason=hold.reason,
                policy=hold.policy,
            )
        return Held(request_id, hold.reason)

    # --- refusals ------------------------------------------------------------------------------

    @contextmanager
    def _refusals_audited(self, request: IssuanceRequest, actor: Actor) -> Iterator[None]:
        try:
            yield
        except (StorageFailed, Busy):
            raise
        except UcmError as error:
            self.refused(error, request=request, actor=actor)
            raise

    def refused(self, error: UcmError, *, request: IssuanceRequest, actor: Actor) -> None:
        """Write the audit row of a refusal, in a unit of its own: nothing else is kept of it."""
        subject = request.subject
        if subject is None and request.csr is not None:
            subject = request.csr.subject
        with self.uow.begin(actor) as tx:
            tx.audit(
                "certificate_refused",
                target=Target("ca", request.ca_id, request.description),
                success=False,
                origin=str(request.origin),
                ca_id=request.ca_id,
                subject=subject_text(subject) if subject is not None else "",
                error=error.code,
                codes=[field_error.code for field_error in error.fields],
                detail=error.detail,
            )
        error.audited = True

    # --- revoke --------------------------------------------------------------------------------

    def revoke(self, request: RevocationRequest, *, actor: Actor) -> CertificateView:
        """Revoke or hold. Raises ``PolicyDenied``, ``Conflict``, ``NotFound``, ``Forbidden``,
        ``Invalid`` for an invalidity date in the future, ``PluginUnavailable``.
        """
        return revocation.revoke(
            request, actor=actor, uow=self.uow, guards=self.guards, clock=self.clock
        )

    def unhold(self, certificate_id: int, *, actor: Actor) -> CertificateView:
        """Lift a hold. Raises ``Conflict`` when the certificate is not on hold, ``NotFound``."""
        return revocation.unhold(certificate_id, actor=actor, uow=self.uow)


def _check_same(request: IssuanceRequest, view: CertificateView) -> None:
    """An idempotency key stands for one request. Server-side keys differ with every attempt."""
    if request.csr is None:
        return
    certified = spki_der(records.public_key_of(view.der))
    if view.ca_id != request.ca_id or certified != request.csr.public_key:
        raise Conflict(
            "This idempotency key was used for another request.",
            hint="Use a new key for a new request.",
        )


def _audit_facts(ready: _Ready) -> dict[str, Any]:
    case = ready.case
    facts = records.facts_of(case.request, draft=ready.ticket.draft, adjustments=ready.adjustments)
    if ready.ticket.findings:
        facts["lint"] = [f"{f.severity.value} {f.lint}" for f in ready.ticket.findings]
    if case.resumed_by:
        facts["resumed_by"] = case.resumed_by
    return facts
