"""What was acknowledged is there after the process died, wherever it died."""

import http.client
import json
import os
import signal
import ssl
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from meshlab.cluster.embedded.apiserver.status import ApiError
from meshlab.cluster.embedded.apiserver.store import HISTORY, Store
from meshlab.cluster.embedded.state import State
from meshlab.errors import ClusterError


def obj(name: str, **content: Any) -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": "n"}, **content}


def test_file_is_the_owners_alone(tmp_path: Path) -> None:
    state = State(tmp_path / "new" / "state.db")
    assert (tmp_path / "new" / "state.db").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o700
    state.close()


def test_one_server_at_a_time(tmp_path: Path) -> None:
    state = State(tmp_path / "state.db")
    with pytest.raises(ClusterError, match="another API server has this state open"):
        State(tmp_path / "state.db")
    state.close()
    State(tmp_path / "state.db").close()


def test_reopened(tmp_path: Path) -> None:
    state = State(tmp_path / "state.db")
    store = Store(state)
    first = store.put("things", obj("a", x=1))
    store.put("things", obj("b"))
    store.remove("things", first)
    state.close()
    state = State(tmp_path / "state.db")
    again = Store(state)
    assert again.revision == store.revision
    assert [o["metadata"]["name"] for o in again.list("things")] == ["b"]
    third = again.put("things", obj("c"))
    assert int(third["metadata"]["resourceVersion"]) == store.revision + 1
    state.close()


def test_watch_resumes_or_says_it_cannot(tmp_path: Path) -> None:
    state = State(tmp_path / "state.db")
    store = Store(state)
    start = store.revision
    for number in range(3):
        store.put("things", obj(f"o{number}"))
    watcher = store.watch("things", start + 1)
    assert [c.object["metadata"]["name"] for c in watcher._changes] == ["o1", "o2"]
    for _ in range(HISTORY):
        store.put("things", obj("busy"))
    with pytest.raises(ApiError) as caught:
        store.watch("things", start + 1)
    assert (caught.value.status_code, caught.value.reason) == (410, "Expired")
    assert not store.watch("quiet", start)._changes, "others' changes take nothing from a resource"
    state.close()


def test_slow_watcher_is_told(tmp_path: Path) -> None:
    state = State(tmp_path / "state.db")
    store = Store(state)
    slow = store.watch("things", store.revision, limit=5)
    for _ in range(20):
        store.put("things", obj("busy"))
    assert slow.overrun
    assert len(slow._changes) <= 5
    state.close()


def test_stored_objects_are_nobodys(tmp_path: Path) -> None:
    state = State(tmp_path / "state.db")
    store = Store(state)
    mine = obj("a", list=[1])
    kept = store.put("things", mine)
    mine["list"].append(2)
    assert kept["list"] == [1]
    state.close()


class Writer(threading.Thread):
    """Creates objects one after the other and remembers which were acknowledged."""

    def __init__(self, port: int, token: str, number: int) -> None:
        super().__init__()
        self.acknowledged: list[str] = []
        self._port, self._token, self._number = port, token, number

    def run(self) -> None:
        context = ssl._create_unverified_context()
        connection = http.client.HTTPSConnection("127.0.0.1", self._port, context=context)
        headers = {"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"}
        for count in range(100_000):
            name = f"w{self._number}-{count}"
            body = json.dumps({"metadata": {"name": name}, "data": {"a": "x" * 500}})
            path = "/api/v1/namespaces/default/configmaps"
            try:
                connection.request("POST", path, body, headers)
                answer = connection.getresponse()
                answer.read()
            except (OSError, http.client.HTTPException):
                connection.close()
                return
            assert answer.status == 201
            self.acknowledged.append(name)


def test_killed_under_load(served: Any) -> None:
    """Two clients write, the server is killed: all they were told of is there again."""
    served.ok("delete", "--raw", "/api/v1/namespaces/default/configmaps")
    writers = [Writer(served.port, served.token, number) for number in range(2)]
    for writer in writers:
        writer.start()
    deadline = time.monotonic() + 10
    while min(len(w.acknowledged) for w in writers) < 40 and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(served.process.pid, signal.SIGKILL)
    for writer in writers:
        writer.join()
    served.kill()
    served.start()
    there = set(served.ok("get", "configmaps", "-o", "name").split())
    told = {f"configmap/{name}" for w in writers for name in w.acknowledged}
    assert len(told) >= 80
    assert told - there == set()
    served.ok("delete", "--raw", "/api/v1/namespaces/default/configmaps")
