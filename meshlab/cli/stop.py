"""Stop a cluster and keep its state; `meshlab up` brings it back as it was."""

import argparse

from meshlab.cli import option

EXAMPLE = "meshlab stop"


def arguments(parser: argparse.ArgumentParser) -> None:
    option.cluster(parser)


def run(args: argparse.Namespace) -> int:
    from meshlab import mesh

    mesh.stop(args.name)
    return 0
