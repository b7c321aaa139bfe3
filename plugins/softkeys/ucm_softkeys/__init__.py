"""Software key backend: private keys sealed at rest under the master key."""

from ucm_softkeys.plugin import SoftkeysPlugin

plugin = SoftkeysPlugin()
