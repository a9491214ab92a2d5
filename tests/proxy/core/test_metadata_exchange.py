import contextlib
from base64 import b64decode

import pytest
from google.protobuf.struct_pb2 import Struct
from hypothesis import given
from hypothesis import strategies as st

from meshlab.proxy.core.metadata_exchange import (
    decode,
    decode_struct,
    encode,
    encode_struct,
    from_endpoint,
    spiffe_namespace,
)
from meshlab.proxy.core.snapshot import Node
from meshlab.proxy.core.stream_info import PeerCertificate

NODE = Node(
    id="sidecar~10.0.0.1~web.shop~shop.svc.cluster.local",
    metadata={
        "NAME": "web-1",
        "NAMESPACE": "shop",
        "WORKLOAD_NAME": "web",
        "CLUSTER_ID": "Kubernetes",
        "LABELS": {"app": "web", "version": "v2", "other": "x"},
        "PROXY_CONFIG": {"not": "sent"},
    },
)


def test_what_we_send_is_a_struct():
    message = Struct.FromString(b64decode(encode(NODE)))
    assert {key: value for key, value in message.items() if key != "LABELS"} == {
        "NAME": "web-1",
        "NAMESPACE": "shop",
        "WORKLOAD_NAME": "web",
        "CLUSTER_ID": "Kubernetes",
    }
    assert dict(message["LABELS"].items()) == {"app": "web", "version": "v2"}


def test_what_we_send_is_read():
    found = decode(encode(NODE), NODE.id.encode())
    assert found is not None
    assert (found.id, found.workload, found.namespace, found.cluster) == (
        NODE.id,
        "web",
        "shop",
        "Kubernetes",
    )
    assert (found.app, found.version, found.canonical_service, found.canonical_revision) == (
        "web",
        "v2",
        "web",
        "v2",
    )


def test_real_struct_is_read():
    message = Struct()
    message.update({"a": "b", "n": 5, "t": True, "l": [1], "s": {"x": "y"}})
    assert decode_struct(message.SerializeToString()) == {
        "a": "b",
        "n": None,
        "t": None,
        "l": None,
        "s": {"x": "y"},
    }


VALUES = st.recursive(st.text(), lambda inner: st.dictionaries(st.text(), inner), max_leaves=5)


@given(st.dictionaries(st.text(), VALUES, max_size=3))
def test_round_trip(values):
    wire = encode_struct(values)
    with contextlib.suppress(ValueError):  # nested too deeply
        assert decode_struct(wire) == values
    message = Struct.FromString(wire)
    assert set(message) == set(values)


@given(st.binary(max_size=100))
def test_any_bytes(data):
    with contextlib.suppress(ValueError):
        decode_struct(data)


@pytest.mark.parametrize("value", [b"not base64!", b"AAAA/w==", b"CgE="])
def test_nonsense_is_nobody(value):
    found = decode(value, b"")
    assert found is None or found.workload == ""


def test_fallbacks():
    peer = from_endpoint("web;shop;web-svc;v3;Kubernetes")
    assert (peer.workload, peer.namespace, peer.canonical_service, peer.canonical_revision) == (
        "web",
        "shop",
        "web-svc",
        "v3",
    )
    assert from_endpoint("").workload == ""
    spiffe = PeerCertificate(uri_sans=("spiffe://cluster.local/ns/shop/sa/web",))
    assert spiffe_namespace(spiffe) == "shop"
    assert spiffe_namespace(PeerCertificate(uri_sans=("https://x/ns/a/sa/b",))) == ""
    assert spiffe_namespace(None) == ""
