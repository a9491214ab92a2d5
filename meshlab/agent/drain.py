"""How a sidecar leaves: nothing new is attracted, open requests finish, the data plane ends."""

import asyncio
import logging

from meshlab.agent.http import asked

LOG = logging.getLogger("meshlab.agent.drain")
POLL = 0.05
_OWN = ("http.admin.", "http.stats.")
"""Stat prefixes of the data plane's own listeners."""


async def start(admin_port: int) -> None:
    """Tell the data plane to answer with `connection: close` and to accept nothing new for long.

    Inbound only: the app still makes its own calls while it ends.
    """
    path = "/drain_listeners?inboundonly&graceful"
    try:
        answer = await asked(admin_port, "POST", path, timeout=2)
    except OSError as error:
        LOG.info("nothing to drain: %s", error)
        return
    if answer.status != 200:
        LOG.warning("the data plane does not drain: %d %s", answer.status, answer.body[:80])


async def finish(admin_port: int, *, longest: float) -> None:
    """Wait until no request is under way, `longest` seconds at most.

    Idle keep-alive connections are not waited for: their clients try again on a new one.
    """
    try:
        async with asyncio.timeout(longest):
            while await active_requests(admin_port):  # noqa: ASYNC110 - another process's counter
                await asyncio.sleep(POLL)
    except TimeoutError:
        LOG.info("requests are still under way after %.1f s", longest)
    except OSError as error:
        LOG.debug("the data plane is gone: %s", error)


async def active_requests(admin_port: int) -> int:
    """Return the requests under way, those to the admin and metrics ports not counted."""
    path = "/stats?usedonly&filter=downstream_rq_active$"
    answer = await asked(admin_port, "GET", path, timeout=2)
    return count_active(answer.body.decode())


def count_active(stats: str) -> int:
    """Add up the lines `http.<prefix>.downstream_rq_active: N`."""
    total = 0
    for line in stats.splitlines():
        name, _, value = line.partition(": ")
        if name.startswith("http.") and not name.startswith(_OWN) and value.isdigit():
            total += int(value)
    return total
