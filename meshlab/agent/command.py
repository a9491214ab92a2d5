"""The agent's small commands: `request`, `wait` and `drain`, as pilot-agent has them."""

import sys
import time

from meshlab.agent.http import ask
from meshlab.errors import ClusterError


def request(method: str, path: str, *, port: int) -> int:
    """Send one request to the data plane's admin port and print the answer's body."""
    try:
        answer = ask(port, method.upper(), f"/{path.lstrip('/')}", timeout=60)
    except OSError as error:
        raise ClusterError(
            f"127.0.0.1:{port} does not answer: {error}", fix="Is the data plane running?"
        ) from error
    sys.stdout.buffer.write(answer.body)
    sys.stdout.flush()
    return 0 if answer.status == 200 else 1


def wait(*, port: int, timeout: float, period: float) -> int:
    """Return 0 once the sidecar is ready.

    Raises:
        ClusterError: not ready within `timeout` seconds; the last answer is in it.
    """
    deadline = time.monotonic() + timeout
    while True:
        try:
            answer = ask(port, "GET", "/healthz/ready", timeout=max(period, 1))
            if answer.status == 200:
                return 0
            last = answer.body.decode(errors="replace").strip()
        except OSError as error:
            last = str(error)
        if time.monotonic() > deadline:
            raise ClusterError(f"the sidecar is not ready after {timeout:g} s: {last}")
        time.sleep(period)


def drain(*, port: int) -> int:
    """Begin draining; the sidecar's preStop hook."""
    return request("POST", "drain", port=port)
