"""The layers, api-only for plugins, and their independence: the contracts in pyproject.toml."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

_LINT_IMPORTS = Path(sys.executable).with_name("lint-imports")


def _lint_imports(folder, *, pythonpath=""):
    return subprocess.run(
        [_LINT_IMPORTS, "--no-logo", "--no-cache", "--config", "pyproject.toml"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=100,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": pythonpath},
        check=False,
    )


def test_every_contract_is_kept(root):
    result = _lint_imports(root)
    assert result.returncode == 0, result.stdout + result.stderr


_WRONG = {
    "ucm/domain/upwards.py": (
        "import ucm.services",
        "ucm.domain is not allowed to import ucm.services",
    ),
    "ucm/store/kit.py": ("import ucm.testing", "ucm.store is not allowed to import ucm.testing"),
    "ucm/domain/plugged.py": ("import ucm_softkeys", "ucm is not allowed to import ucm_softkeys"),
    "ucm/unplaced/__init__.py": ("", "- ucm.unplaced"),
    "plugins/softkeys/ucm_softkeys/deep.py": (
        "import ucm.services",
        "Illegal imports of protected package ucm.services",
    ),
}


@pytest.fixture(scope="module")
def complaints(root, tmp_path_factory):
    """What is said about a copy of the tree that breaks every contract once."""
    copy = tmp_path_factory.mktemp("tree")
    ignore = shutil.ignore_patterns("__pycache__", "tests")
    shutil.copytree(root / "ucm", copy / "ucm", ignore=ignore)
    shutil.copytree(root / "plugins", copy / "plugins", ignore=ignore)
    shutil.copy(root / "pyproject.toml", copy)
    for path, (text, _) in _WRONG.items():
        (copy / path).parent.mkdir(parents=True, exist_ok=True)
        (copy / path).write_text(text)
    for package in ("domain", "services", "store"):
        (copy / "ucm" / package).mkdir(exist_ok=True)
        (copy / "ucm" / package / "__init__.py").touch()
    roots = [copy, *sorted((copy / "plugins").iterdir())]
    result = _lint_imports(copy, pythonpath=":".join(map(str, roots)))
    assert result.returncode == 1, result.stdout + result.stderr
    return result.stdout


@pytest.mark.parametrize("path", _WRONG)
def test_a_broken_contract_is_found(complaints, path):
    assert _WRONG[path][1] in complaints
