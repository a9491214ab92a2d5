"""What all connections of a worker share."""

import asyncio
import random
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from meshlab.proxy.core.access_log import AccessLog, compile_filter
from meshlab.proxy.core.metadata_exchange import encode
from meshlab.proxy.core.route import RouteTable
from meshlab.proxy.core.snapshot import Node
from meshlab.proxy.core.stat import StatRegistry
from meshlab.proxy.core.stream_info import StreamInfo
from meshlab.proxy.net.clock import Timers
from meshlab.proxy.net.tls import TlsContexts

if TYPE_CHECKING:
    from meshlab.proxy.net.cluster import ClusterState

LogStream = Callable[[StreamInfo], None]
OpenLog = Callable[[AccessLog], LogStream]


class Runtime:
    """The worker's clock, dice, statistics, and the compiled configuration in force.

    Attributes:
        clusters: by name; the dictionary is replaced as a whole, never changed.
        routes: RDS, by name; replaced as a whole, too.
        dice: draws from [0, 1).
        metadata: what we tell peers of ourselves, and the node id beside it.
        draining: answers carry `connection: close`.
    """

    __slots__ = (
        "_date",
        "_date_second",
        "_logs",
        "_next_connection",
        "_open_log",
        "clusters",
        "dice",
        "draining",
        "loop",
        "metadata",
        "metadata_id",
        "node",
        "now",
        "random_bytes",
        "routes",
        "stats",
        "timers",
        "tls",
        "wall",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        node: Node,
        stats: StatRegistry,
        open_log: OpenLog,
        seed: int | None,
    ) -> None:
        generator = random.Random(seed)
        self.loop = loop
        self.node = node
        self.stats = stats
        self.timers = Timers(loop)
        self.tls = TlsContexts()
        self.dice: Callable[[], float] = generator.random
        self.random_bytes: Callable[[int], bytes] = generator.randbytes
        self.now: Callable[[], float] = time.monotonic
        self.wall: Callable[[], float] = time.time
        self.metadata = encode(node)
        self.metadata_id = node.id.encode()
        self.clusters: dict[str, ClusterState] = {}
        self.routes: dict[str, RouteTable] = {}
        self.draining = False
        self._open_log = open_log
        self._logs: list[tuple[AccessLog, LogStream]] = []
        self._next_connection = 0
        self._date = b""
        self._date_second = 0

    def connection_id(self) -> int:
        self._next_connection += 1
        return self._next_connection

    def date(self, wall: float) -> bytes:
        """Return the Date header's value (RFC 9110 §5.6.7), made once a second."""
        second = int(wall)
        if second != self._date_second:
            self._date_second = second
            self._date = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(second)).encode()
        return self._date

    def log(self, config: AccessLog) -> LogStream:
        """Return what takes finished streams for `config`, its filter applied.

        Raises:
            ConfigError: the log's filter or format does not compile.
        """
        for known, write in self._logs:
            if known == config:
                return write
        takes = compile_filter(config.filter)
        sink = self._open_log(config)
        if takes is None:
            write = sink
        else:
            chosen = takes

            def write(info: StreamInfo) -> None:
                if chosen(info):
                    sink(info)

        self._logs.append((config, write))
        return write
