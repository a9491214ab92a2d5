"""`make lab`: the cluster with its mesh up, and JupyterLab open on the first lesson.

The learner works on copies in `my-labs/`, which git ignores: an edited copy is kept, an untouched
one follows its original, and `--fresh` restores all of them (edits are set aside, never lost).
"""

from __future__ import annotations

import argparse
import datetime
import hashlib
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

from meshlab.errors import MeshlabError

ORIGINALS = ".originals.json"
SET_ASIDE = ".set-aside"
FIRST_LESSON = "00_preflight.ipynb"
SETTINGS = {
    # Nothing is asked of the network, and the whole notebook is rendered: with the default, `full`,
    # a chart that was scrolled out of view stops moving.
    "@jupyterlab/apputils-extension:notification": {
        "fetchNews": "false",
        "checkForUpdates": False,
    },
    "@jupyterlab/notebook-extension:tracker": {"windowingMode": "defer"},
}


def copy_labs(labs: Path, copies: Path, *, fresh: bool = False) -> list[str]:
    """Bring `copies` up to date with `labs`; return the names of the edited copies that were kept.

    A copy counts as edited when it differs from the original it was made from, whose hash is kept
    in `copies/.originals.json`. With `fresh`, edited copies move to `copies/.set-aside/<time>/`.
    """
    copies.mkdir(parents=True, exist_ok=True)
    record = copies / ORIGINALS
    known: dict[str, str] = json.loads(record.read_text()) if record.exists() else {}
    aside = copies / SET_ASIDE / datetime.datetime.now().astimezone().strftime("%Y-%m-%d-%H%M%S")
    kept = []
    for original in sorted(path for path in labs.rglob("*") if path.is_file()):
        if ".ipynb_checkpoints" in original.parts:
            continue
        name = str(original.relative_to(labs))
        copy = copies / name
        edited = copy.exists() and _digest(copy) not in {known.get(name), _digest(original)}
        if edited and not fresh:
            kept.append(name)
            continue
        if edited:
            (aside / name).parent.mkdir(parents=True, exist_ok=True)
            copy.rename(aside / name)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(original, copy)
        known[name] = _digest(original)
    record.write_text(json.dumps(known, indent=1, sort_keys=True))
    return kept


def free_port(first: int = 8888, tries: int = 50) -> int:
    """Return the first port of loopback from `first` on that nobody listens on.

    Raises:
        MeshlabError: all `tries` ports are taken.
    """
    for port in range(first, first + tries):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise MeshlabError(
        f"ports {first} to {first + tries - 1} on 127.0.0.1 are all taken",
        fix="End one of the programs that listen there, or start with --port",
    )


def jupyter_command(copies: Path, port: int, *, browser: bool) -> list[str]:
    """Return the command line of JupyterLab on `copies`."""
    command = [
        sys.executable, "-m", "jupyterlab",
        "--ServerApp.ip=127.0.0.1",
        f"--ServerApp.port={port}",
        f"--ServerApp.root_dir={copies}",
        f"--LabApp.default_url=/lab/tree/{FIRST_LESSON}",
        "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
        "--LabApp.news_url=None",
        "--ServerApp.answer_yes=True",  # Control-C ends it at once
        "--Application.log_level=ERROR",
    ]  # fmt: skip
    if os.geteuid() == 0:
        command.append("--allow-root")
    if not browser:
        command.append("--no-browser")
    return command


def main(argv: list[str] | None = None) -> int:
    """Run `python -m meshlab.lab.open` (what `make lab` calls)."""
    parser = argparse.ArgumentParser(
        prog="python -m meshlab.lab.open",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--fresh", action="store_true", help="restore the notebooks")
    parser.add_argument("--name", default="meshlab", help="the cluster (default: meshlab)")
    parser.add_argument("--port", type=int, default=8888, help="first port to try (default: 8888)")
    parser.add_argument(
        "--copies", type=Path, default=Path("my-labs"), help="where the copies live"
    )
    options = parser.parse_args(argv)
    labs = Path(__file__).parents[2] / "labs"
    try:
        kept = copy_labs(labs, options.copies.resolve(), fresh=options.fresh)
        if kept:
            _say(f"Kept your edits in {', '.join(kept)} (FRESH=1 restores the originals).")
        _write_settings()
        port = free_port(options.port)
    except MeshlabError as error:
        _say(f"make lab: {error}")
        return 1
    token = os.environ.get("JUPYTER_TOKEN") or secrets.token_hex(24)
    # The two take seconds each and need nothing of each other.
    cluster = threading.Thread(target=_cluster_up, args=(options.name,), name="cluster up")
    cluster.start()
    jupyter = subprocess.Popen(
        jupyter_command(options.copies.resolve(), port, browser="DISPLAY" in os.environ),
        env={**os.environ, "MESHLAB_CLUSTER_NAME": options.name, "JUPYTER_TOKEN": token},
    )
    try:
        cluster.join()
        if _answers(port, jupyter):
            _say(f"\nOpen http://127.0.0.1:{port}/lab/tree/{FIRST_LESSON}?token={token}")
            _say("Control-C ends JupyterLab; the cluster stays until: make down\n")
        return jupyter.wait()
    except KeyboardInterrupt:
        jupyter.terminate()
        jupyter.wait()
        _say(f"\nJupyterLab ended. The cluster {options.name!r} still runs: make down deletes it.")
        return 0


def _answers(port: int, server: subprocess.Popen[bytes]) -> bool:
    """Wait until the server takes connections; False: it ended before."""
    while server.poll() is None:
        with socket.socket() as client:
            if client.connect_ex(("127.0.0.1", port)) == 0:
                return True
        time.sleep(0.1)
    return False


def _cluster_up(name: str) -> None:
    """Bring the cluster up; a lesson says what is wrong with it if that fails, so go on."""
    command = [sys.executable, "-m", "meshlab", "up", "--name", name]
    if subprocess.run(command, check=False).returncode:
        _say("The cluster is not up yet; lesson 0 shows why, or run: .venv/bin/meshlab doctor")


def _write_settings() -> None:
    """Put our overrides where this environment's JupyterLab reads them (never the user's own)."""
    folder = Path(sys.prefix) / "share" / "jupyter" / "lab" / "settings"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "overrides.json").write_text(json.dumps(SETTINGS, indent=1))


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _say(line: str) -> None:
    sys.stderr.write(line + "\n")


if __name__ == "__main__":
    sys.exit(main())
