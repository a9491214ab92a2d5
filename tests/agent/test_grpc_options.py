"""gRPC ignores an option whose name it does not know: each of ours must be one of its own."""

from pathlib import Path

import pytest
from grpc._cython import cygrpc

from meshlab.agent import main, upstream
from meshlab.control import wiring


@pytest.mark.parametrize(
    "options",
    [
        pytest.param(main._SERVER_OPTIONS, id="agent's sockets"),
        pytest.param(upstream._OPTIONS, id="agent to control plane"),
        pytest.param(wiring._OPTIONS, id="control plane"),
    ],
)
def test_options_are_grpcs(options: list[tuple[str, int]]) -> None:
    library = Path(cygrpc.__file__).read_bytes()
    assert [name for name, _ in options if name.encode() + b"\0" not in library] == []


@pytest.mark.parametrize(
    "options", [main._SERVER_OPTIONS, wiring._OPTIONS], ids=["agent", "control plane"]
)
def test_servers_allow_the_pings_of_their_clients(options: list[tuple[str, int]]) -> None:
    """Unless told, gRPC's servers end a stream whose client asks twice in 5 minutes."""
    allowed = dict(options)["grpc.http2.min_ping_interval_without_data_ms"]
    assert allowed < dict(upstream._OPTIONS)["grpc.keepalive_time_ms"]
