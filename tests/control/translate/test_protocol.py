"""Which protocol a service's port speaks."""

import pytest

from meshlab.control.snapshot import ServicePort
from meshlab.control.translate.capability import Capabilities
from meshlab.control.translate.protocol import Protocol, declared, protocol


@pytest.mark.parametrize(
    ("name", "app_protocol", "number", "expected"),
    [
        pytest.param("http", "", 80, Protocol.HTTP, id="name"),
        pytest.param("HTTP-api", "", 80, Protocol.HTTP, id="suffix, either case"),
        pytest.param("httpx", "", 80, Protocol.AUTO, id="no dash, no protocol"),
        pytest.param("http2", "", 80, Protocol.HTTP2, id="http2"),
        pytest.param("grpc-xds", "", 80, Protocol.HTTP2, id="grpc with suffix"),
        pytest.param("grpc-web", "", 80, Protocol.HTTP2, id="grpc-web"),
        pytest.param("https-webhook", "", 443, Protocol.TCP, id="https is opaque"),
        pytest.param("tcp", "http", 80, Protocol.HTTP, id="appProtocol beats the name"),
        pytest.param("http", "kubernetes.io/h2c", 80, Protocol.HTTP2, id="h2c"),
        pytest.param("http", "example.com/own", 80, Protocol.HTTP, id="foreign appProtocol"),
        pytest.param("", "", 9000, Protocol.AUTO, id="undeclared"),
        pytest.param("", "", 3306, Protocol.TCP, id="server speaks first"),
        pytest.param("dns-tcp", "", 53, Protocol.TCP, id="DNS"),
        pytest.param("http", "", 3306, Protocol.HTTP, id="declared beats the number"),
    ],
)
def test_declared(name: str, app_protocol: str, number: int, expected: Protocol) -> None:
    port = ServicePort(name=name, number=number, target_port=number, app_protocol=app_protocol)
    assert declared(port) is expected


def test_http2_is_opaque_without_http2() -> None:
    port = ServicePort(name="grpc", number=80, target_port=80)
    assert protocol(port, Capabilities()) is Protocol.TCP
    assert protocol(port, Capabilities(http2=True)) is Protocol.HTTP2
