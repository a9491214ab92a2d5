import asyncio
import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshlab.cluster.embedded.apiserver.catalog import Catalog
from meshlab.cluster.embedded.apiserver.protobuf import MAGIC, decode_protobuf
from meshlab.cluster.embedded.apiserver.request import (
    DEEPEST,
    LARGEST_BODY,
    decode_json,
    decode_object,
    dry_run,
    field_validation,
    parse_path,
    parse_query,
    read_body,
    verb_of,
    whole_number,
)
from meshlab.cluster.embedded.apiserver.status import ApiError

CATALOG = Catalog()


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("/api/v1/pods", ("pods", "", "", "", "")),
        ("/api/v1/namespaces", ("namespaces", "", "", "", "")),
        ("/api/v1/namespaces/shop", ("namespaces", "", "shop", "", "")),
        ("/api/v1/namespaces/shop/status", ("namespaces", "", "shop", "status", "")),
        ("/api/v1/namespaces/shop/finalize", ("namespaces", "", "shop", "finalize", "")),
        ("/api/v1/namespaces/shop/pods", ("pods", "shop", "", "", "")),
        ("/api/v1/namespaces/shop/pods/p/log", ("pods", "shop", "p", "log", "")),
        (
            "/apis/apps/v1/namespaces/shop/deployments/web/scale",
            ("deployments.apps", "shop", "web", "scale", ""),
        ),
        ("/api/v1/namespaces/shop/pods/p/proxy", ("pods", "shop", "p", "proxy", "")),
        ("/api/v1/namespaces/shop/pods/p:80/proxy/", ("pods", "shop", "p:80", "proxy", "/")),
        (
            "/api/v1/namespaces/shop/services/s/proxy/a/b/",
            ("services", "shop", "s", "proxy", "/a/b/"),
        ),
        (
            "/apis/rbac.authorization.k8s.io/v1/clusterroles/system%3Aview",
            ("clusterroles.rbac.authorization.k8s.io", "", "system:view", "", ""),
        ),
    ],
)
def test_path(path: str, found: tuple[str, ...]) -> None:
    target = parse_path(CATALOG, path)
    assert (
        target.resource.name,
        target.namespace,
        target.name,
        target.subresource,
        target.rest,
    ) == found


@pytest.mark.parametrize(
    "path",
    [
        "/api/v2/pods",
        "/api/v1/podz",
        "/apis/apps/v2/deployments",
        "/api/v1/namespaces/shop/nodes/n",
        "/api/v1/pods/p",
        "/api/v1/namespaces/shop/pods/p/log/more",
        "/other",
        "/",
    ],
)
def test_no_such_path(path: str) -> None:
    with pytest.raises(ApiError) as caught:
        parse_path(CATALOG, path)
    assert caught.value.status_code == 404


@pytest.mark.parametrize(
    ("method", "path", "query", "verb"),
    [
        ("GET", "/api/v1/pods", "", "list"),
        ("GET", "/api/v1/pods", "watch=true", "watch"),
        ("GET", "/api/v1/pods", "watch=1", "watch"),
        ("GET", "/api/v1/namespaces/n/pods/p", "", "get"),
        ("HEAD", "/api/v1/namespaces/n/pods/p", "", "get"),
        ("POST", "/api/v1/namespaces/n/pods", "", "create"),
        ("PUT", "/api/v1/namespaces/n/pods/p", "", "update"),
        ("PATCH", "/api/v1/namespaces/n/pods/p", "", "patch"),
        ("DELETE", "/api/v1/namespaces/n/pods/p", "", "delete"),
        ("DELETE", "/api/v1/namespaces/n/pods", "", "deletecollection"),
        ("GET", "/api/v1/namespaces/n/pods/p/exec", "", "create"),
        ("GET", "/api/v1/namespaces/n/pods/p/log", "", "get"),
        ("POST", "/api/v1/namespaces/n/pods/p/proxy", "", "create"),
    ],
)
def test_verb(method: str, path: str, query: str, verb: str) -> None:
    assert verb_of(method, parse_path(CATALOG, path), parse_query(query.encode())) == verb


def test_options() -> None:
    assert dry_run({"dryRun": "All"})
    assert not dry_run({})
    assert dry_run({}, {"dryRun": ["All"]})
    assert field_validation({}) == "Warn"
    assert whole_number({"n": "12"}, "n") == 12
    assert whole_number({}, "n") is None
    for bad in (
        lambda: dry_run({"dryRun": "Some"}),
        lambda: field_validation({"fieldValidation": "Loose"}),
        lambda: whole_number({"n": "-1"}, "n"),
        lambda: whole_number({"n": "1e9"}, "n"),
        lambda: whole_number({"n": "9" * 40}, "n"),
    ):
        with pytest.raises(ApiError):
            bad()


@pytest.mark.parametrize(
    ("body", "status"),
    [
        pytest.param(b"[" * 100_000, 400, id="deep list"),
        pytest.param(b'{"a":' * 5000 + b"1" + b"}" * 5000, 400, id="deep object"),
        pytest.param(b"[" * (DEEPEST + 1) + b"]" * (DEEPEST + 1), 400, id="just too deep"),
        pytest.param(b'{"a": NaN}', 400, id="not a number"),
        pytest.param(b"9" * 100_000, 400, id="endless number"),
        pytest.param(b"\xff\xfe\x00", 400, id="bytes"),
        pytest.param(b"", 400, id="nothing"),
        pytest.param(b"a: b", 400, id="YAML"),
    ],
)
def test_bad_json(body: bytes, status: int) -> None:
    with pytest.raises(ApiError) as caught:
        decode_json(body)
    assert caught.value.status_code == status


def test_yaml_is_not_read() -> None:
    with pytest.raises(ApiError) as caught:
        decode_object(b"a: &a [x]", "application/yaml")
    assert caught.value.status_code == 415


def body_of(*pieces: bytes, pause: float = 0.0) -> Any:
    left = list(pieces)

    async def receive() -> dict[str, Any]:
        await asyncio.sleep(pause)
        piece = left.pop(0)
        return {"type": "http.request", "body": piece, "more_body": bool(left)}

    return receive


def test_large_bodies() -> None:
    piece = b"x" * (1024 * 1024)
    assert len(asyncio.run(read_body(body_of(piece, piece), None))) == 2 * len(piece)
    for receive, declared in ((body_of(piece, piece, piece, b"x"), None), (None, "9999999")):
        with pytest.raises(ApiError) as caught:
            asyncio.run(read_body(receive, declared))
        assert caught.value.status_code == 413
        assert str(LARGEST_BODY) in caught.value.message


def test_slow_bodies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("meshlab.cluster.embedded.apiserver.request.BODY_SECONDS", 0.05)
    with pytest.raises(ApiError) as caught:
        asyncio.run(read_body(body_of(*[b"x"] * 100, pause=0.01), None))
    assert caught.value.status_code == 408


# --- protobuf ---------------------------------------------------------------------------------


def field(number: int, value: int | bytes) -> bytes:
    def varint(n: int) -> bytes:
        out = b""
        while n > 0x7F:
            out += bytes([n & 0x7F | 0x80])
            n >>= 7
        return out + bytes([n])

    if isinstance(value, int):
        return varint(number << 3) + varint(value % (1 << 64))
    return varint(number << 3 | 2) + varint(len(value)) + value


def unknown(version: str, kind: str, raw: bytes) -> bytes:
    meta = field(1, version.encode()) + field(2, kind.encode())
    return MAGIC + field(1, meta) + field(2, raw)


def test_protobuf_deployment() -> None:
    container = field(1, b"c") + field(2, b"busybox") + field(6, field(3, 8080)) + field(5, b"")
    probe = field(1, field(2, field(1, b"/") + field(2, field(1, 1) + field(3, b"http"))))
    template = field(2, field(2, container + field(11, probe)))
    labels = field(1, field(1, b"app") + field(2, b"web"))
    spec = field(1, 0) + field(2, labels) + field(3, template) + field(5, 0) + field(7, 0)
    metadata = field(1, b"web") + field(3, b"") + field(8, b"") + field(7, 0)
    raw = field(1, metadata) + field(2, spec) + field(3, b"")
    assert decode_protobuf(unknown("apps/v1", "Deployment", raw)) == {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web"},
        "spec": {
            "replicas": 0,  # a pointer: zero is a wish
            "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "spec": {
                    "containers": [
                        {
                            "name": "c",
                            "image": "busybox",
                            "ports": [{"containerPort": 8080}],
                            "readinessProbe": {"httpGet": {"path": "/", "port": "http"}},
                        }
                    ]
                }
            },
        },
    }


def test_protobuf_specials() -> None:
    secret = field(2, field(1, b"k") + field(2, b"\x00\xff"))
    assert decode_protobuf(unknown("v1", "Secret", secret))["data"] == {"k": "AP8="}
    moment = field(1, 1_767_225_600) + field(2, 5_000)
    lease = field(2, field(3, moment) + field(2, 15))
    assert decode_protobuf(unknown("coordination.k8s.io/v1", "Lease", lease))["spec"] == {
        "acquireTime": "2026-01-01T00:00:00.000005Z",
        "leaseDurationSeconds": 15,
    }
    spec = field(5, field(1, b"k") + field(2, field(1, b"a") + field(1, b"b")))
    review = decode_protobuf(unknown("v1", "SubjectAccessReview", field(2, spec)))
    assert review["spec"] == {"extra": {"k": ["a", "b"]}}


@given(st.binary(max_size=200), st.sampled_from(["Pod", "Deployment", "Secret", "Nothing"]))
def test_any_protobuf_is_an_object_or_refused(raw: bytes, kind: str) -> None:
    for body in (raw, MAGIC + raw, unknown("v1", kind, raw)):
        with suppress(ApiError):
            assert json.loads(json.dumps(decode_protobuf(body)))["kind"] == kind
