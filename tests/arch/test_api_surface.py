"""What plugins may rely on changes only on purpose: the listing is compared with the code."""

import difflib
import subprocess
import sys


def test_the_surface_is_the_one_that_was_agreed(root):
    printed = subprocess.run(
        [sys.executable, "-m", "tests.arch.surface"],
        cwd=root,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    ).stdout
    agreed = (root / "tests/arch/api_surface.txt").read_text("utf-8")
    difference = "\n".join(
        difflib.unified_diff(agreed.splitlines(), printed.splitlines(), "agreed", "code", n=0)
    )
    assert not difference, (
        "ucm.api differs from what was agreed. Additions: run `make api-surface` and say so in "
        "the changelog. Removals and changes break plugins: they need a new major API version.\n"
        + difference
    )
