"""The README's commands run as written against a server started as the README says."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from ucm.testing.server import PASSWORD

ROOT = Path(__file__).resolve().parent.parent.parent
README = (ROOT / "README.md").read_text()


@pytest.mark.peer("openssl", "curl")
@pytest.mark.parametrize("chosen", [True, False], ids=["chosen password", "made password"])
def test_every_shell_block_works_in_order(start_server, tmp_path: Path, chosen: bool) -> None:
    server = start_server(signed_in=False, UCM_ADMIN_PASSWORD=PASSWORD if chosen else "")
    password = PASSWORD
    if not chosen:
        shown = re.findall(r"shown only this once: (\S+)", server.log)
        assert len(shown) == 1
        password = shown[0]
    blocks = re.findall(r"^```sh\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    assert len(blocks) >= 6
    script = "\n".join(blocks).replace("https://127.0.0.1:8443", server.https)
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "UCM_DATA_DIR": str(server.data_dir),
        "UCM_ADMIN_PASSWORD": password,
    }
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "first/www.pem: OK" in done.stdout
    assert "first/mail.pem: OK" in done.stdout
    assert "X509v3 Extended Key Usage" in done.stdout
    assert done.stdout.rstrip().endswith("revoked")
    assert ("the new password of admin" in done.stdout) != chosen


def test_the_files_that_the_readme_names_exist() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert (ROOT / target).exists(), target
