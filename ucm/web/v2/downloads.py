"""Answers that are files."""

from __future__ import annotations

from collections.abc import Iterable

from flask import Response

from ucm.services.exports import ExportedFile


def download(file: ExportedFile) -> Response:
    """A file to save. Key material must not stay in any cache."""
    response = Response(file.content, mimetype=file.media_type)
    return _attached(response, file.filename, secret=file.secret)


def stream(parts: Iterable[bytes], *, filename: str, media_type: str) -> Response:
    """A file whose parts are made while they are sent."""
    return _attached(Response(parts, mimetype=media_type), filename, secret=False)


def _attached(response: Response, filename: str, *, secret: bool) -> Response:
    response.headers["Content-Disposition"] = f'attachment; filename="{filename}"'
    response.headers["X-Content-Type-Options"] = "nosniff"
    if secret:
        response.headers["Cache-Control"] = "no-store, no-cache, must-revalidate, private"
        response.headers["Pragma"] = "no-cache"
    return response
