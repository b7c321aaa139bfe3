"""A sealer with a master key of its own, which can go away."""

import pytest

from ucm.api.errors import SafeMode


class Vault:
    def __init__(self, keys):
        self.keys = keys
        self.gone = False
        self.unsealed = 0

    def seal(self, secret):
        return self._keys().seal(secret)

    def unseal(self, sealed):
        self.unsealed += 1
        return self._keys().unseal(sealed)

    def _keys(self):
        if self.gone:
            raise SafeMode("The master key is missing.")
        return self.keys


@pytest.fixture
def vault():
    from ucm.domain.sealing import MasterKey, MasterKeys

    return Vault(MasterKeys([MasterKey.generate()]))
