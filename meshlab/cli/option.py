"""Flags that several verbs have, and how they print: tables as kubectl, JSON on request."""

import argparse
import json
from typing import Any

from meshlab.observe.table import Table

DEFAULT_NAME = "meshlab"


def cluster(parser: argparse.ArgumentParser) -> None:
    """Add `--name`."""
    parser.add_argument(
        "--name",
        default=DEFAULT_NAME,
        metavar="CLUSTER",
        help=f"the cluster (default: {DEFAULT_NAME})",
    )


def output(parser: argparse.ArgumentParser) -> None:
    """Add `-o`, for verbs that print a table."""
    parser.add_argument(
        "-o", "--output", choices=("table", "json"), default="table", help="what to print"
    )


def show(table: Table, form: str) -> None:
    """Print a table, or its rows as JSON."""
    if form == "json":
        show_json(table.records())
    else:
        print(table.text())


def show_json(value: Any) -> None:
    print(json.dumps(value, indent=2, ensure_ascii=False, default=str))
