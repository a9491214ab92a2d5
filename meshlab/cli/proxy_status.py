"""Show what the control plane sent each proxy, and whether the proxy has it (`istioctl ps`)."""

import argparse

from meshlab.cli import option

EXAMPLE = "meshlab proxy-status"


def arguments(parser: argparse.ArgumentParser) -> None:
    option.cluster(parser)
    option.output(parser)


def run(args: argparse.Namespace) -> int:
    from meshlab.mesh import attach

    option.show(attach(args.name).proxies(), args.output)
    return 0
