"""The demo is a distribution of its own: built, installed and run as a third party's would be."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DEMO = ROOT / "examples" / "ucm-plugin-demo"


def run(*arguments: str, site: Path, data: Path, expect: int = 0, **settings: str) -> str:
    """Run ``ucm`` in an environment in which the demo is installed."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("UCM_")}
    environment |= {
        "PYTHONPATH": str(site),
        "UCM_DATA_DIR": str(data),
        "UCM_MASTER_KEY_FILE": str(data / "absent"),
        **settings,
    }
    done = subprocess.run(
        [sys.executable, "-m", "ucm.cli.main", *arguments],
        env=environment,
        cwd=site,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == expect, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """A directory into which the demo's wheel was installed, without a network."""
    wheels = tmp_path_factory.mktemp("wheels")
    target = tmp_path_factory.mktemp("site")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    offline = ["--no-deps", "--no-index"]
    build = [*pip, "wheel", "--no-build-isolation", *offline, "-w", str(wheels), str(DEMO)]
    subprocess.run(build, check=True, timeout=120)
    [wheel] = wheels.glob("ucm_plugin_demo-*.whl")
    subprocess.run(
        [*pip, "install", *offline, "--target", str(target), str(wheel)], check=True, timeout=120
    )
    return target


@pytest.fixture
def data(tmp_path) -> Path:
    return tmp_path / "data"


def states(text: str) -> dict[str, dict]:
    return {state["name"]: state for state in json.loads(text)}


def test_installed_it_is_disabled_until_it_is_named(site, data):
    shown = states(run("plugins", "list", "--json", site=site, data=data))
    assert shown["demo"]["state"] == "disabled"
    assert shown["demo"]["distribution"] == "ucm-plugin-demo"


def test_named_it_runs(site, data):
    run("plugins", "check", site=site, data=data, UCM_PLUGINS="default,demo!")
    shown = states(
        run("plugins", "list", "--json", site=site, data=data, UCM_PLUGINS="default,demo")
    )
    assert shown["demo"]["state"] == "running"
    assert shown["softkeys"]["state"] == "running"


def test_its_command_is_below_its_name(site, data):
    text = run("demo", "--help", site=site, data=data, UCM_PLUGINS="default,demo")
    assert "denied-names" in text
    run("demo", "denied-names", site=site, data=data, UCM_PLUGINS="default,demo")


def test_an_authority_lives_in_its_key_backend(site, data, tmp_path):
    keys = tmp_path / "keys"
    keys.mkdir(mode=0o700)
    program = (
        "from ucm.runtime.boot import BootSettings\n"
        "from ucm.runtime.container import build_container\n"
        "from ucm.testing.builders import a_ca, a_request\n"
        "from ucm.api import Actor\n"
        "from ucm.api.keys import KeySpec\n"
        "container = build_container(BootSettings.load())\n"
        "container.start(role='cli')\n"
        "ca = a_ca().with_key(KeySpec.EC_P256, backend='demo-files').made_in(container)\n"
        "print(container.issuance.issue(a_request(ca), actor=Actor.system()).serial)\n"
        "container.close()\n"
    )
    environment = {k: v for k, v in os.environ.items() if not k.startswith("UCM_")}
    environment |= {
        "PYTHONPATH": str(site),
        "UCM_DATA_DIR": str(data),
        "UCM_MASTER_KEY_FILE": str(data / "absent"),
        "UCM_PLUGINS": "default,demo!",
        "UCM_DEMO__KEY_DIRECTORY": str(keys),
    }
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=environment,
        cwd=site,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert len(list(keys.iterdir())) == 1
    assert int(done.stdout, 16) > 0


def test_the_linter_finds_nothing(site, data):
    assert "demo: 0 findings" in run("plugins", "lint", "demo", site=site, data=data)


def test_it_can_be_purged(site, data):
    enabled = {"UCM_PLUGINS": "default,demo"}
    run("plugins", "check", site=site, data=data, **enabled)
    run("plugins", "purge", "demo", "--yes", site=site, data=data, **enabled)
    shown = states(run("plugins", "list", "--json", site=site, data=data))
    assert shown["demo"]["state"] == "disabled"


def test_uninstalled_but_still_named_it_stops_the_start_with_the_cause(data, tmp_path):
    text = run("plugins", "list", site=tmp_path, data=data, expect=1, UCM_PLUGINS="default,demo")
    assert "no plugin 'demo' is installed" in text
