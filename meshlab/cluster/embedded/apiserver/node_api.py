"""What the API server asks of the node: logs of a container, and a process inside one."""

from collections.abc import AsyncIterator
from typing import Any, Protocol


class ExecSession(Protocol):
    """A command running in a container."""

    async def write(self, data: bytes) -> None:
        """Send bytes to its standard input; waits while it does not read."""
        ...

    async def close_stdin(self) -> None:
        """End its standard input (half close)."""
        ...

    async def resize(self, columns: int, rows: int) -> None:
        """Tell its terminal the new size; nothing happens without one."""
        ...

    def output(self) -> AsyncIterator[tuple[int, bytes]]:
        """Yield (1 for standard output or 2 for standard error, bytes) until both end."""
        ...

    async def wait(self) -> int:
        """Return the exit code, 128 + n for death by signal n."""
        ...

    async def terminate(self) -> None:
        """End the whole process group; harmless when it is over."""
        ...


class NodeApi(Protocol):
    """The node, as `pods/log` and `pods/exec` need it."""

    def logs(
        self,
        pod: dict[str, Any],
        container: str,
        *,
        follow: bool = False,
        since_seconds: int | None = None,
        since_time: str | None = None,
        tail_lines: int | None = None,
        limit_bytes: int | None = None,
        timestamps: bool = False,
        previous: bool = False,
    ) -> AsyncIterator[bytes]:
        """Yield the container's log, whole lines, until its end or (follow) the container's.

        Raises:
            ApiError: at the first step, 400, when there is no such log.
        """
        ...

    async def exec(
        self, pod: dict[str, Any], container: str, command: list[str], *, stdin: bool, tty: bool
    ) -> ExecSession:
        """Start a command in a running container.

        Raises:
            ApiError: 400 or 500 with the reason, when it cannot be started.
        """
        ...
