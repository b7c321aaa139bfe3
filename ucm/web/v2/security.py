"""``/system/security``: encryption at rest and the master key."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

from flask import Response
from flask_openapi3 import Tag
from pydantic import BaseModel, Field

from ucm.api.web import current_actor, requires
from ucm.services.encryption import EncryptionService, EncryptionStatus
from ucm.services.exports import ExportedFile
from ucm.services.masterkey import MasterKeyState
from ucm.services.rotation import KeyRotation, RotationStatus
from ucm.web.blueprints import APIBlueprint
from ucm.web.envelope import ok
from ucm.web.requests import Body
from ucm.web.v2.downloads import download
from ucm.web.v2.schemas import Envelope, conflict_response

_TAG = Tag(name="security", description="Encryption at rest and the master key")
_FILE_NAME = "ucm-master.key"


class EncryptAllBody(Body):
    """A dry run counts and changes nothing."""

    dry_run: bool = Field(default=True, description="Only say what would be encrypted")


class RotationItem(BaseModel):
    """The exchange of the master key; ``done`` of ``total`` while it runs."""

    state: Literal["idle", "running", "unfinished"]
    fingerprint: str | None
    older_fingerprints: list[str]
    done: int | None
    total: int | None
    error: str | None


class SecretState(BaseModel):
    """Whether a secret is there, and whether a file or the environment says it; never itself."""

    configured: bool
    source: Literal["file", "env", "none"]


class SecretsStatusItem(BaseModel):
    """``session_secret`` is behind CSRF tokens, ``encryption_key`` seals private keys."""

    session_secret: SecretState
    encryption_key: SecretState


class SecretCount(BaseModel):
    """Secrets in one column of the database."""

    encrypted: int
    unencrypted: int


class EncryptionStatusItem(BaseModel):
    """Where the master key comes from and what is sealed under it."""

    enabled: bool
    key_source: Literal["file", "env", "none"]
    key_file_path: str | None
    key_file_exists: bool
    key_fingerprint: str | None
    encrypted_count: int
    unencrypted_count: int
    total_keys: int
    columns: dict[str, SecretCount]
    safe_mode: bool
    safe_mode_reason: str | None
    warning: str | None
    rotation: RotationItem


class EncryptAllItem(BaseModel):
    """What was encrypted, or would be; ``errors`` names rows that are no usable key."""

    dry_run: bool
    encrypted: int
    skipped: int
    errors: list[str]


class GeneratedKeyItem(BaseModel):
    """A new key that is kept nowhere, and what to do with it."""

    key: str
    key_file_path: str | None
    instructions: list[str]


def rotation_document(status: RotationStatus) -> dict[str, Any]:
    """The state of a rotation."""
    return {**dataclasses.asdict(status), "state": status.state.value}


def status_document(status: EncryptionStatus, *, rotation: RotationStatus) -> dict[str, Any]:
    """The encryption status of the catalogue, with the counts of each column."""
    key = status.key
    return {
        "enabled": not key.safe_mode,
        "key_source": key.source.value,
        "key_file_path": None if key.path is None else str(key.path),
        "key_file_exists": key.path is not None and key.path.exists(),
        "key_fingerprint": key.fingerprint,
        "encrypted_count": status.encrypted_count,
        "unencrypted_count": status.unencrypted_count,
        "total_keys": status.encrypted_count + status.unencrypted_count,
        "columns": {
            name: {"encrypted": count.sealed, "unencrypted": count.plain}
            for name, count in status.columns.items()
        },
        "safe_mode": key.safe_mode,
        "safe_mode_reason": key.safe_mode_reason,
        "warning": key.warning,
        "rotation": rotation_document(rotation),
    }


def blueprint(
    *, encryption: EncryptionService, rotation: KeyRotation, session_secret_is_given: bool
) -> APIBlueprint:
    """Routes below ``/api/v2/system/security`` that concern secrets. The session secret is the
    operator's when it is given, else one that the server keeps in its data directory.
    """
    api = APIBlueprint("security", __name__, url_prefix="/api/v2/system/security", abp_tags=[_TAG])

    @api.get(
        "/encryption-status",
        summary="Whether secrets are encrypted, and under which key",
        responses={200: Envelope[EncryptionStatusItem]},
    )
    @requires("admin:system")
    def encryption_status() -> Response:
        return ok(status_document(encryption.status(), rotation=rotation.status()))

    @api.post(
        "/encrypt-all-keys",
        summary="Encrypt every secret that lies in clear",
        responses={200: Envelope[EncryptAllItem]},
    )
    @requires("admin:system")
    def encrypt_all_keys(body: EncryptAllBody) -> Response:
        result = encryption.encrypt_all(dry_run=body.dry_run, actor=current_actor())
        verb = "would be" if body.dry_run else "were"
        return ok(
            dataclasses.asdict(result), message=f"{result.encrypted} secrets {verb} encrypted"
        )

    @api.get(
        "/secrets-status",
        summary="Whether the server has its secrets, and where they come from",
        responses={200: Envelope[SecretsStatusItem]},
    )
    @requires("admin:system")
    def secrets_status() -> Response:
        key = encryption.key_state()
        return ok(
            {
                "session_secret": {
                    "configured": True,
                    "source": "env" if session_secret_is_given else "file",
                },
                "encryption_key": {
                    "configured": not key.safe_mode and key.fingerprint is not None,
                    "source": key.source.value,
                },
            }
        )

    @api.post(
        "/enable-encryption",
        summary="Refused: keys are encrypted from the first one on",
        responses={204: None},
    )
    @requires("admin:system")
    def enable_encryption() -> Response:
        encryption.enable()

    @api.post(
        "/disable-encryption",
        summary="Refused: keys are never stored in clear",
        responses={204: None},
    )
    @requires("admin:system")
    def disable_encryption() -> Response:
        encryption.disable()

    @api.post(
        "/rotate-master-key",
        summary="Exchange the master key while the server works; goes on in the background",
        responses={202: Envelope[RotationItem]},
    )
    @requires("admin:system")
    def rotate_master_key() -> Response:
        status = rotation.start(actor=current_actor())
        return ok(
            rotation_document(status),
            message="Rotation started. Backups made before it need the former master key.",
            status=202,
        )

    @api.get(
        "/rotate-master-key",
        summary="How far the exchange of the master key is",
        responses={200: Envelope[RotationItem]},
    )
    @requires("admin:system")
    def rotation_status() -> Response:
        return ok(rotation_document(rotation.status()))

    @api.get(
        "/generate-key",
        summary="A new master key, kept nowhere",
        responses={200: Envelope[GeneratedKeyItem]},
    )
    @requires("admin:system")
    def generate_key() -> Response:
        key = encryption.key_state()
        return ok(
            {
                "key": encryption.generate_key().reveal(),
                "key_file_path": None if key.path is None else str(key.path),
                "instructions": _instructions(key),
            }
        )

    @api.get(
        "/master-key/download",
        summary="The master key file, to be kept apart from the server",
        responses={
            200: {
                "content": {
                    "application/octet-stream": {"schema": {"type": "string", "format": "binary"}}
                }
            },
            409: conflict_response(),
        },
    )
    @requires("admin:system")
    def download_master_key() -> Response:
        content = encryption.download(actor=current_actor()).encode("ascii")
        return download(ExportedFile(_FILE_NAME, "application/octet-stream", content, secret=True))

    return api


def _instructions(key: MasterKeyState) -> list[str]:
    """How to bring a key into use that was made apart from the server."""
    if key.path is None:
        place = "Set KEY_ENCRYPTION_KEY to the new key, a comma and the present key, and restart."
    else:
        place = f"Put the new key as the first line into {key.path}, above the present one."
    return [
        "Keep a copy of the new key where the server's backups are not.",
        place,
        "Start the rotation (POST /api/v2/system/security/rotate-master-key): it seals every secret"
        " again under the new key.",
        "Never put a new key in place of the present one: what is sealed opens only with its own.",
    ]
