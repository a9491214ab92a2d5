"""A process that must not outlive the one that started it, however that one ends.

The parent holds the other end of stdin. A kernel that is killed cannot say goodbye, but the system
closes its pipes: end of file means nobody listens any more. The line `stop` asks for an orderly
end.
"""

import os
import threading
import time
from collections.abc import Callable

GRACE_SECONDS = 1.5
"""How long an orderly end may take after the parent is gone."""


def watch(stop: Callable[[], object], *, descriptor: int = 0, grace: float = GRACE_SECONDS) -> None:
    """Call `stop`, from another thread, at the line `stop` or at end of file.

    After end of file the process ends within `grace` seconds, whatever it does.
    """

    def read() -> None:
        rest = b""
        while piece := _read(descriptor):
            *lines, rest = (rest + piece).split(b"\n")
            if b"stop" in lines:
                stop()
        stop()
        time.sleep(grace)
        os._exit(1)

    threading.Thread(target=read, name="lease", daemon=True).start()


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 4096)
    except OSError:
        return b""  # the other end is gone, whatever the system calls it
