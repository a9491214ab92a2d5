"""Print the path of a cluster's kubeconfig; `~/.kube/config` is never touched."""

import argparse

from meshlab.cli import option

EXAMPLE = "export KUBECONFIG=$(meshlab kubeconfig)"


def arguments(parser: argparse.ArgumentParser) -> None:
    option.cluster(parser)


def run(args: argparse.Namespace) -> int:
    from meshlab.mesh import kubeconfig_of

    print(kubeconfig_of(args.name))
    return 0
