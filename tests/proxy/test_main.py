"""meshlab-proxy as a process: start, refuse, drain."""

import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from fixtures.data_plane import free_port
from fixtures.upstream import Upstream

BOOTSTRAP = """
admin: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {admin}}}}}}}
static_resources:
  listeners:
  - address: {{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}
    filter_chains:
    - filters:
      - name: tcp
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy
          stat_prefix: tcp
          {field}: app
  clusters:
  - name: app
    type: STATIC
    connect_timeout: 1s
    load_assignment:
      cluster_name: app
      endpoints:
      - lb_endpoints:
        - endpoint: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {app}}}}}}}
"""
COMMAND = (sys.executable, "-m", "meshlab.proxy")


def bootstrap(path: Path, app: int = 1, field: str = "cluster") -> dict[str, int]:
    ports = {"admin": free_port(), "port": free_port()}
    path.write_text(BOOTSTRAP.format(**ports, app=app, field=field))
    return ports


def run(*arguments: str) -> tuple[int, str, str]:
    done = subprocess.run((*COMMAND, *arguments), capture_output=True, text=True, timeout=30)
    return done.returncode, done.stdout, done.stderr


def test_validate(tmp_path: Path) -> None:
    path = tmp_path / "b.yaml"
    bootstrap(path)
    assert run("-c", str(path), "--mode", "validate") == (0, f"configuration '{path}' OK\n", "")


def test_refused_file_names_the_field(tmp_path: Path) -> None:
    path = tmp_path / "b.yaml"
    bootstrap(path, field="on_demand: {}, cluster".replace(", ", "\n          "))
    status, _, errors = run("-c", str(path))
    assert (status, errors) == (
        1,
        f"meshlab-proxy: {path}: static_resources.listeners[0].filter_chains[0].filters[0]"
        ".typed_config.on_demand: is not supported by this proxy. Remove this field\n",
    )


def test_missing_file(tmp_path: Path) -> None:
    path = tmp_path / "none"
    assert run("-c", str(path)) == (
        1,
        "",
        f"meshlab-proxy: {path}: cannot be read: No such file or directory\n",
    )


def test_flags_are_checked() -> None:
    status, _, errors = run()
    assert status == 2
    assert "one of -c and --config-yaml must be given" in errors


def test_address_in_use(tmp_path: Path) -> None:
    path = tmp_path / "b.yaml"
    ports = bootstrap(path)
    with socket.create_server(("127.0.0.1", ports["port"])):
        status, _, errors = run("-c", str(path))
    assert status == 1
    assert "cannot listen: " in errors.splitlines()[-1]


@pytest.fixture
def upstream() -> Upstream:
    return Upstream()


def test_sigterm_drains(tmp_path: Path, upstream: Upstream) -> None:
    path = tmp_path / "b.yaml"
    ports = bootstrap(path, app=upstream.port)
    process = subprocess.Popen((*COMMAND, "-c", str(path)), stderr=subprocess.PIPE)
    try:
        for line in iter(process.stderr.readline, b""):
            if b"serving 1 listeners" in line:
                break
        with socket.create_connection(("127.0.0.1", ports["port"]), timeout=5) as client:
            client.sendall(b"GET /delay/0.3 HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
            while not upstream.connections:
                pass
            process.send_signal(signal.SIGTERM)
            answer = b""
            while piece := client.recv(4096):
                answer += piece
        assert answer.endswith(b"\r\n\r\na")  # a connection under way is served to its end
        assert process.wait(5) == 0
    finally:
        process.kill()
        process.stderr.close()
        upstream.close()
