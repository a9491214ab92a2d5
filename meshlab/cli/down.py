"""Remove a cluster and everything of it: processes, namespaces, rules, files."""

import argparse

from meshlab.cli import option

EXAMPLE = "meshlab down --name two"


def arguments(parser: argparse.ArgumentParser) -> None:
    option.cluster(parser)


def run(args: argparse.Namespace) -> int:
    from meshlab import mesh

    mesh.down(args.name)
    return 0
