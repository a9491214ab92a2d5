"""Show the clusters of this machine, or what runs in one."""

import argparse

from meshlab.cli import option
from meshlab.observe.table import Table
from meshlab.summary import Summary

EXAMPLE = """\
meshlab status
meshlab status --name two -o json"""


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--name", metavar="CLUSTER", help="only this one (default: all)")
    option.output(parser)
    parser.add_argument("-q", "--quiet", action="store_true", help="only the names")


def run(args: argparse.Namespace) -> int:
    from meshlab import mesh
    from meshlab.wait import say

    names = [args.name] if args.name else mesh.clusters()
    if args.quiet:
        print("\n".join(names))
        return 0
    rows = [mesh.status(name) for name in names]
    if not rows and args.output == "table":
        say("no cluster; `meshlab up` makes one")
    else:
        option.show(table(rows), args.output)
    return 0 if all(row.state == "running" for row in rows) else 1


def table(rows: list[Summary]) -> Table:
    """Return a line a cluster; problems below."""
    problems = [f"{row.name}: {row.problems}" for row in rows if row.problems]
    return Table(
        ["NAME", "STATE", "PODS READY", "MESH", "INGRESS", "SERVER"],
        [[r.name, r.state, r.pods, r.mesh, r.ingress, r.server] for r in rows],
        note="\n".join(problems),
    )
