"""What the cluster remembers: objects and secrets in one SQLite file, killed at any point.

Write-ahead logging with `synchronous=NORMAL`: a commit is in the kernel's page cache before it is
acknowledged, so it survives the death of the process at any instruction (a power cut may take the
last commits, never the consistency). That costs some 50 µs, less than handing it to a thread, so
commits are made where they are decided: no write is ever seen that is not kept.
"""

import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

SCHEMA = """
CREATE TABLE IF NOT EXISTS object (
  resource TEXT NOT NULL, namespace TEXT NOT NULL, name TEXT NOT NULL, body BLOB NOT NULL,
  PRIMARY KEY (resource, namespace, name)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS fact (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
"""


class State:
    """The file `state.db`, mode 0600, of one cluster. One process opens it at a time."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.touch(mode=0o600)
        path.chmod(0o600)
        self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=NORMAL")
        self._db.execute("PRAGMA cache_size=-1024")
        self._db.executescript(SCHEMA)
        self._lock(path)

    def _lock(self, path: Path) -> None:
        """Keep a second server off this file for as long as this one lives."""
        import fcntl

        from meshlab.errors import ClusterError

        self._file = path.open("rb")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self.close()
            raise ClusterError(
                "another API server has this state open",
                object=str(path),
                fix="Stop it first, or use another cluster name.",
            ) from error

    def objects(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield (resource, object) for all that was ever acknowledged and not removed."""
        rows = self._db.execute("SELECT resource, body FROM object ORDER BY 1, namespace, name")
        for resource, body in rows:
            yield resource, json.loads(body)

    def put(self, resource: str, namespace: str, name: str, body: bytes, revision: int) -> None:
        """Keep an object and the revision that made it, both or neither."""
        with self._transaction():
            self._db.execute(
                "INSERT OR REPLACE INTO object VALUES (?, ?, ?, ?)",
                (resource, namespace, name, body),
            )
            self._keep_revision(revision)

    def remove(self, resource: str, namespace: str, name: str, revision: int) -> None:
        with self._transaction():
            self._db.execute(
                "DELETE FROM object WHERE resource = ? AND namespace = ? AND name = ?",
                (resource, namespace, name),
            )
            self._keep_revision(revision)

    @property
    def revision(self) -> int:
        """The revision of the last acknowledged write; 0 in a new cluster."""
        return int(self.fact("revision") or b"0")

    def fact(self, name: str) -> bytes | None:
        """Return what was kept under a name (keys, tokens), or None."""
        row = self._db.execute("SELECT value FROM fact WHERE name = ?", (name,)).fetchone()
        return bytes(row[0]) if row else None

    def keep_fact(self, name: str, value: bytes) -> None:
        self._db.execute("INSERT OR REPLACE INTO fact VALUES (?, ?)", (name, value))

    def close(self) -> None:
        self._db.close()
        self._file.close()

    def _keep_revision(self, revision: int) -> None:
        self.keep_fact("revision", str(revision).encode())

    def _transaction(self) -> "_Transaction":
        return _Transaction(self._db)


class _Transaction:
    """`with` around statements that are kept together (sqlite3's own leaves BEGIN to us)."""

    __slots__ = ("_db",)

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def __enter__(self) -> None:
        self._db.execute("BEGIN IMMEDIATE")

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._db.execute("ROLLBACK" if kind else "COMMIT")
