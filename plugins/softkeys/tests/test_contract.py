"""Software keys keep the contract of every key backend."""

import contextlib

import pytest
from ucm_softkeys.backend import SoftKeyBackend

from ucm.testing.contracts.key_backend import KeyBackendContract


class TestSoftKeys(KeyBackendContract):
    @pytest.fixture
    def reopen(self, vault):
        return lambda: SoftKeyBackend(vault)

    @pytest.fixture
    def outage(self, vault):
        @contextlib.contextmanager
        def without_master_key():
            vault.gone = True
            yield
            vault.gone = False

        return without_master_key
