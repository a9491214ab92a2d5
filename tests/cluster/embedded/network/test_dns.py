"""DNS answers, as the Kubernetes DNS specification has them."""

import ipaddress
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshlab.cluster.embedded.network.dns import (
    AAAA,
    CNAME,
    NOERROR,
    NXDOMAIN,
    SRV,
    A,
    Record,
    answer,
    encode_name,
    look_up,
)
from meshlab.cluster.embedded.network.index import ServiceIndex


def service(namespace: str, name: str, **spec: Any) -> dict[str, Any]:
    return {"metadata": {"namespace": namespace, "name": name}, "spec": spec}


def make_index() -> ServiceIndex:
    index = ServiceIndex()
    ports = [{"name": "http", "port": 80, "protocol": "TCP"}]
    for obj in (
        service("shop", "web", clusterIP="10.96.0.7", ports=ports),
        service("shop", "db", clusterIP="None", ports=ports),
        service("shop", "ext", type="ExternalName", externalName="example.com"),
    ):
        index.apply_service("ADDED", obj)
    endpoints = [
        {"addresses": ["10.244.0.2"], "hostname": "db-0", "conditions": {"ready": True}},
        {"addresses": ["10.244.0.3"], "conditions": {"ready": True}},
        {"addresses": ["10.244.0.4"], "conditions": {"ready": False}},
    ]
    metadata = {
        "namespace": "shop",
        "name": "db-x",
        "labels": {"kubernetes.io/service-name": "db"},
    }
    piece = {
        "metadata": metadata,
        "endpoints": endpoints,
        "ports": [{"name": "http", "port": 8080}],
    }
    index.apply_slice("ADDED", piece)
    return index


INDEX = make_index()


@pytest.mark.parametrize(
    ("name", "found"),
    [
        pytest.param("web.shop.svc", [(A, "10.96.0.7", 0)], id="a service's address"),
        pytest.param(
            "db.shop.svc", [(A, "10.244.0.2", 0), (A, "10.244.0.3", 0)], id="headless: ready pods"
        ),
        pytest.param("db-0.db.shop.svc", [(A, "10.244.0.2", 0)], id="a pod by its host name"),
        pytest.param("10-244-0-3.db.shop.svc", [(A, "10.244.0.3", 0)], id="a pod without one"),
        pytest.param(
            "_http._tcp.web.shop.svc", [(SRV, "web.shop.svc.cluster.local", 80)], id="SRV"
        ),
        pytest.param(
            "_http._tcp.db.shop.svc",
            [
                (SRV, "db-0.db.shop.svc.cluster.local", 8080),
                (SRV, "10-244-0-3.db.shop.svc.cluster.local", 8080),
            ],
            id="SRV of a headless service has the pods' ports",
        ),
        pytest.param("ext.shop.svc", [(CNAME, "example.com", 0)], id="ExternalName"),
        pytest.param("10-244-0-9.shop.pod", [(A, "10.244.0.9", 0)], id="a pod's record"),
        pytest.param("shop.svc", [], id="a namespace exists and has no address"),
        pytest.param("web.other.svc", None, id="no such namespace"),
        pytest.param("_no._tcp.web.shop.svc", None, id="no such port"),
        pytest.param("1-2-3-4.shop.pod", None, id="not a pod's address"),
        pytest.param("a.b.c.d.e.f", None, id="too deep"),
    ],
)
def test_look_up(name: str, found: list[tuple[int, str, int]] | None) -> None:
    full = f"{name}.cluster.local"
    expected = None if found is None else [Record(full, *record) for record in found]
    assert look_up(full, INDEX) == expected


def test_names_outside_do_not_exist() -> None:
    assert look_up("google.com", INDEX) is None


def ask(name: str, kind: int) -> tuple[int, int, bytes]:
    """Return the answer's code, its count of answers, and the whole message."""
    query = struct.pack("!6H", 7, 0x0100, 1, 0, 0, 0) + encode_name(name)
    message = answer(query + struct.pack("!HH", kind, 1), INDEX)
    identity, flags, _, answers, _, _ = struct.unpack_from("!6H", message)
    assert identity == 7
    return flags & 0xF, answers, message


def test_the_wire_carries_the_address() -> None:
    code, answers, message = ask("WEB.shop.svc.cluster.local", A)
    assert (code, answers) == (NOERROR, 1)
    assert message.endswith(ipaddress.IPv4Address("10.96.0.7").packed)


@pytest.mark.parametrize(
    ("name", "kind", "code"),
    [
        pytest.param("web.shop.svc.cluster.local", AAAA, NOERROR, id="no IPv6: empty, no error"),
        pytest.param("no.shop.svc.cluster.local", A, NXDOMAIN, id="no such service"),
        pytest.param("example.com", A, NXDOMAIN, id="outside"),
    ],
)
def test_empty_answers(name: str, kind: int, code: int) -> None:
    assert ask(name, kind)[:2] == (code, 0)


def test_an_answer_too_long_for_udp_is_marked() -> None:
    query = struct.pack("!6H", 1, 0, 1, 0, 0, 0) + encode_name("db.shop.svc.cluster.local")
    message = answer(query + struct.pack("!HH", A, 1), INDEX, limit=64)
    _, flags, _, answers, _, _ = struct.unpack_from("!6H", message)
    assert (flags & 0x0200, answers) == (0x0200, 0)


@given(st.binary(max_size=80))
def test_any_bytes_get_an_answer_or_none(query: bytes) -> None:
    message = answer(query, INDEX)
    assert message == b"" or message[:2] == query[:2]
