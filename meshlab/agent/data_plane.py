"""The agent's child: the data plane's process, started again when it dies, ended with the agent."""

import asyncio
import json
import logging
import os
import shutil
import signal
import sys
from pathlib import Path

from meshlab.agent.bootstrap import bootstrap
from meshlab.agent.settings import Settings
from meshlab.errors import ConfigError

LOG = logging.getLogger("meshlab.agent.data_plane")
SHORTEST_BACK_OFF = 0.1
LONGEST_BACK_OFF = 10.0
STEADY = 30.0
"""Seconds of life after which a death counts as the first again."""
KILL_AFTER = 3.0
"""Seconds between asking the child to end and making it."""


def command(settings: Settings, config: Path) -> list[str]:
    """Return the data plane's command line.

    Raises:
        ConfigError: the executable is not here.
    """
    name = Path(settings.data_plane).name
    if name == "meshlab-proxy":
        return [sys.executable, "-m", "meshlab.proxy", "-c", str(config)]
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)))
    found = shutil.which(settings.data_plane, path=path)
    if found is None:
        raise ConfigError(
            f"the data plane {settings.data_plane!r} is not installed here",
            field="MESHLAB_DATAPLANE",
            allowed="meshlab-proxy, envoy or a path",
        )
    return [
        found,
        *("-c", str(config)),
        *("--log-level", settings.log_level),
        *("--drain-time-s", str(int(max(settings.termination_drain, 1)))),
        *("--concurrency", "1"),
        "--disable-hot-restart",  # it wants shared memory, which a read-only container lacks
        *("--file-flush-interval-msec", "100"),
        *("--local-address-ip-version", "v4"),
    ]


def write_bootstrap(settings: Settings) -> Path:
    """Write the bootstrap, for this user only, and return where it is."""
    path = settings.directory / "bootstrap.json"
    path.touch(mode=0o600)
    path.write_text(json.dumps(bootstrap(settings), indent=1))
    return path


class DataPlane:
    """Keeps one child alive until `stop`."""

    def __init__(self, argv: list[str]) -> None:
        self.argv = argv
        self.restarts = 0
        self.process: asyncio.subprocess.Process | None = None
        self._stopping = asyncio.Event()

    async def run(self) -> int:
        """Return the child's last exit code, once `stop` was called."""
        back_off = SHORTEST_BACK_OFF
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            self.process = await asyncio.create_subprocess_exec(*self.argv, start_new_session=True)
            code = await self.process.wait()
            if self._stopping.is_set():
                return code
            self.restarts += 1
            if loop.time() - began > STEADY:
                back_off = SHORTEST_BACK_OFF
            LOG.error("the data plane ended with %d; again in %.1f s", code, back_off)
            if await self._stopped_within(back_off):
                return code
            back_off = min(back_off * 2, LONGEST_BACK_OFF)

    async def stop(self) -> None:
        """Ask the child to end, and end it when it does not."""
        self._stopping.set()
        process = self.process
        if process is None or process.returncode is not None:
            return
        process.send_signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(process.wait(), KILL_AFTER)
        except TimeoutError:
            LOG.warning("the data plane ignores SIGTERM: killed")
            process.kill()

    async def _stopped_within(self, seconds: float) -> bool:
        try:
            await asyncio.wait_for(self._stopping.wait(), seconds)
        except TimeoutError:
            return False
        return True
