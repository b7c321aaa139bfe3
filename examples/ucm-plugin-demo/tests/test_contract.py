"""The demo keeps the contracts of plugins and of key backends."""

import pytest
from ucm_demo.backend import FileKeyBackend
from ucm_demo.plugin import DemoPlugin

from ucm.runtime.clock import SystemIds
from ucm.testing.contracts.key_backend import KeyBackendContract
from ucm.testing.contracts.plugin import PluginContract


class TestDemoPlugin(PluginContract):
    @pytest.fixture
    def plugin(self):
        return DemoPlugin()


class TestFileKeys(KeyBackendContract):
    @pytest.fixture
    def reopen(self, tmp_path, ucm_container):
        directory = tmp_path / "keys"
        directory.mkdir(mode=0o700)
        return lambda: FileKeyBackend(
            sealer=ucm_container.sealer, ids=SystemIds(), directory=lambda: directory
        )
