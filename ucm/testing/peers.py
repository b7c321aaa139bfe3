"""Programs of the distribution that tests run against, such as openssl, initdb, nginx and cfssl."""

import os
import shutil
from pathlib import Path

import pytest

_PACKAGES = {
    "openssl": "openssl",
    "curl": "curl",
    "initdb": "postgresql",
    "postgres": "postgresql",
    "nginx": "nginx-light",
    "cfssl": "golang-cfssl",
}


def find(program: str) -> Path | None:
    """Return the path of a peer program, or None when this machine does not have it.

    Looks beyond PATH where Debian keeps server programs: /usr/sbin and the newest PostgreSQL.
    """
    versions = sorted(
        Path("/usr/lib/postgresql").glob("*/bin"),
        key=lambda folder: int(folder.parent.name) if folder.parent.name.isdigit() else 0,
        reverse=True,
    )
    path = os.pathsep.join(
        [os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin", *map(str, versions)]
    )
    found = shutil.which(program, path=path)
    return Path(found) if found else None


def require(program: str) -> Path:
    """Return the path of a peer program.

    Without it the calling test is skipped with the reason, and fails when CI=true.
    """
    found = find(program)
    if found is None:
        package = _PACKAGES.get(program, program)
        reason = f"{program} is not installed (Debian package {package}; see .ci/peers)"
        if os.environ.get("CI") == "true":
            pytest.fail(f"{reason}; with CI=true a missing peer is a failure", pytrace=False)
        pytest.skip(reason)
    return found
