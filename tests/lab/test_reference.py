"""The reference notebooks are stored with their outputs; nbval runs them and compares."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_what_the_reference_shows_is_still_true() -> None:
    done = subprocess.run(
        [
            sys.executable, "-m", "pytest", "-q", "--nbval", "-o", "addopts=", "-W", "ignore",
            "-p", "no:cacheprovider", "labs/reference",
        ],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=180,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-4000:]
