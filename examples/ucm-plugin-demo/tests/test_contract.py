"""The demo keeps the contracts of plugins and of key backends."""

import pytest
from ucm_demo.backend import FileKeyBackend
from ucm_demo.plugin import DemoPlugin

from ucm.testing.contracts.key_backend import KeyBackendContract
from ucm.testing.contracts.plugin import PluginContract
from ucm.testing.fakes import SequenceIds


class TestDemoPlugin(PluginContract):
    @pytest.fixture
    def plugin(self):
        return DemoPlugin()


class TestFileKeys(KeyBackendContract):
    @pytest.fixture
    def reopen(self, tmp_path, ucm_container):
        directory = tmp_path / "keys"
        directory.mkdir(mode=0o700)
        ids = SequenceIds()
        return lambda: FileKeyBackend(
            sealer=ucm_container.sealer, ids=ids, directory=lambda: directory
        )
