"""``/dashboard`` and ``/search``."""

from __future__ import annotations

from flask import Response
from flask_openapi3 import Tag
from pydantic import Field

from ucm.api.services import Clock
from ucm.api.views import CertificateView
from ucm.api.web import current_actor, requires
from ucm.services.overview import Numbers, OverviewService
from ucm.web.blueprints import APIBlueprint
from ucm.web.envelope import ok
from ucm.web.requests import Query
from ucm.web.v2.core_schemas import CaHit, CertificateHit, DashboardItem, SearchItem
from ucm.web.v2.schemas import Envelope, ListEnvelope

_TAG = Tag(name="overview", description="Counters and search")


class LimitQuery(Query):
    """How many rows."""

    limit: int = Field(default=10, ge=1, le=100)


class SearchQuery(Query):
    """What to look for."""

    q: str = Field(min_length=2, max_length=255, description="At least two characters")
    limit: int = Field(default=5, ge=1, le=20, description="Hits of each kind")


def numbers_document(numbers: Numbers) -> dict[str, int]:
    """Counters of the moment."""
    return {
        "total_certificates": numbers.certificates,
        "valid_certificates": numbers.valid,
        "expiring_soon": numbers.expiring,
        "expired": numbers.expired,
        "revoked": numbers.revoked,
        "on_hold": numbers.on_hold,
        "total_cas": numbers.authorities,
        "active_cas": numbers.active_authorities,
        "pending_csrs": numbers.pending_requests,
    }


def blueprint(overview: OverviewService, *, clock: Clock) -> APIBlueprint:
    """Routes below ``/api/v2``."""
    api = APIBlueprint("overview", __name__, url_prefix="/api/v2", abp_tags=[_TAG])

    def certificate_hit(certificate: CertificateView) -> dict[str, object]:
        return {
            "id": certificate.id,
            "descr": certificate.description,
            "subject": certificate.subject,
            "common_name": certificate.common_name,
            "serial_number": certificate.serial,
            "valid_to": certificate.not_after,
            "status": certificate.status(clock.now()).value,
        }

    @api.get(
        "/dashboard/stats",
        summary="Counters of the moment",
        responses={200: Envelope[DashboardItem]},
    )
    @requires()
    def stats() -> Response:
        return ok(numbers_document(overview.numbers()))

    @api.get(
        "/dashboard/recent-cas",
        summary="The newest authorities",
        responses={200: ListEnvelope[CaHit]},
    )
    @requires("read:cas")
    def recent_cas(query: LimitQuery) -> Response:
        return ok(
            [
                {
                    "id": ca.id,
                    "name": ca.name,
                    "subject": ca.subject,
                    "valid_to": ca.not_after,
                    "created_at": ca.created_at,
                }
                for ca in overview.recent_authorities(query.limit)
            ]
        )

    @api.get(
        "/dashboard/expiring-certs",
        summary="Certificates that expire within 30 days",
        responses={200: ListEnvelope[CertificateHit]},
    )
    @requires("read:certificates")
    def expiring(query: LimitQuery) -> Response:
        return ok([certificate_hit(one) for one in overview.expiring(query.limit)])

    @api.get(
        "/search",
        summary="Search certificates, authorities, templates and accounts",
        responses={200: Envelope[SearchItem]},
    )
    @requires()
    def search(query: SearchQuery) -> Response:
        actor = current_actor()
        hits = overview.search(query.q, limit=query.limit, actor=actor)
        found: dict[str, object] = {
            "certificates": [certificate_hit(one) for one in hits.certificates],
            "cas": [
                {"id": ca.id, "name": ca.name, "subject": ca.subject, "valid_to": ca.not_after}
                for ca in hits.cas
            ],
            "templates": [{"id": one.id, "name": one.name} for one in hits.templates],
        }
        if actor.may("read:users"):
            found["users"] = [
                {"id": user.id, "username": user.username, "full_name": user.full_name}
                for user in hits.users
            ]
        return ok(found)

    return api
