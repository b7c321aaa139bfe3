"""What a plugin may ask the authorities to sign."""

from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from ucm.api import PluginContext, hookimpl
from ucm.api.actor import Actor
from ucm.api.errors import Forbidden
from ucm.api.issuance import IssuanceRequest, Origin
from ucm.api.keys import KeyPurpose, KeySpec
from ucm.api.names import build_subject
from ucm.testing.builders import a_ca
from ucm.testing.hosting import a_manifest

SYSTEM = Actor.system("test")


class Probe:
    """Keeps its context."""

    def __init__(self):
        self.manifest = a_manifest("probe")
        self.ctx = None

    @hookimpl
    def ucm_start(self, ctx: PluginContext) -> None:
        self.ctx = ctx


def generated(uow, keys):
    """A key of whoever \"keys\" belong to, and its public half."""
    with uow.begin(SYSTEM) as tx:
        ref = keys.generate(KeySpec.EC_P256, purpose=KeyPurpose.SUBJECT, label="x", tx=tx)
    with keys.open(ref) as opened:
        public = opened.public_key()
    return ref, public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def test_a_plugin_keeps_only_its_own_keys_with_a_certificate(ucm_installation):
    probe = Probe()
    container = ucm_installation.start(plugins={"probe": probe}, environ={})
    ca = a_ca().made_in(container)
    mine, public = generated(container.uow, probe.ctx.keys)
    request = IssuanceRequest(
        origin=Origin("probe"),
        ca_id=ca.id,
        profile="client",
        public_key=public,
        key=mine,
        subject=build_subject([("CN", "device")]),
        names=(),
    )
    issued = probe.ctx.issuance.issue(request, actor=SYSTEM)
    assert issued.view.key == mine
    foreign, of_core = generated(container.uow, container.keys)
    with pytest.raises(Forbidden, match="'probe'"):
        probe.ctx.issuance.issue(replace(request, key=foreign, public_key=of_core), actor=SYSTEM)
    with pytest.raises(Forbidden):
        probe.ctx.issuance.issue(replace(request, key=ca.key), actor=SYSTEM)
