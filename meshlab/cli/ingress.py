"""Print the base URL of the ingress gateway, as this machine reaches it."""

import argparse

from meshlab.cli import option

EXAMPLE = "curl -H 'Host: bluegreen.example.com' $(meshlab ingress)/api/color"


def arguments(parser: argparse.ArgumentParser) -> None:
    option.cluster(parser)


def run(args: argparse.Namespace) -> int:
    from meshlab.mesh import attach

    print(attach(args.name).ingress)
    return 0
