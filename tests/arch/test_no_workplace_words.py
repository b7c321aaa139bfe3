"""The repository speaks of UCM alone: no path of somebody's machine, no secret, no left-over."""

import re
import subprocess

import pytest

# In two pieces each, so that this file does not contain what it looks for.
_FORBIDDEN = [
    "/" + r"work/(main|shared|\.library)",
    "/" + r"tmp/(brief|bash_jobs)",
    "/" + r"root/",
    "/" + r"home/[a-z]+/",
    "/" + r"opt/pypi",
    r"\.py" + "env/",
    "index-" + "url|trusted-" + "host",
    "BEGIN OPENSSH " + "PRIVATE KEY",
    "<<<<" + "<<< |>>>>" + ">>> ",
]
_PATTERN = re.compile("|".join(_FORBIDDEN))


@pytest.fixture(scope="module")
def tracked(root):
    listing = subprocess.run(
        ["git", "-c", "safe.directory=*", "ls-files", "-z"],
        cwd=root,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    if listing.returncode != 0:
        pytest.skip(f"not a git work tree: {listing.stderr.strip()}")
    return [root / name for name in listing.stdout.split("\0") if name]


def test_tracked_files_name_no_workplace(root, tracked):
    found = []
    for path in tracked:
        if not path.is_file():  # removed in the work tree, not yet in the index
            continue
        try:
            text = path.read_text("utf-8")
        except UnicodeDecodeError:
            continue
        found += [
            f"{path.relative_to(root)}:{number}: {line.strip()[:100]}"
            for number, line in enumerate(text.splitlines(), 1)
            if _PATTERN.search(line)
        ]
    assert not found, "\n".join(found)


def test_nothing_is_tracked_that_a_server_or_a_tool_left(root, tracked):
    left = re.compile(
        r"(^|/)(ucm-data|\.venv|__pycache__)|\.(pyc|db|sqlite|log)$|master\.key$|\.env$"
    )
    names = [path.relative_to(root).as_posix() for path in tracked]
    assert not [name for name in names if left.search(name)]


def test_the_pattern_finds_what_it_forbids():
    assert _PATTERN.search("see /" + "work/shared/design")
    assert not _PATTERN.search("the network of the framework/main")
