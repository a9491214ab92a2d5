"""Remove the mesh from a cluster; pods keep their sidecars until they are made anew."""

import argparse

from meshlab.cli import option

EXAMPLE = "meshlab uninstall"


def arguments(parser: argparse.ArgumentParser) -> None:
    option.cluster(parser)
    parser.add_argument("--kubeconfig", metavar="FILE", help="another cluster than --name's")
    parser.add_argument("--context", help="which of the kubeconfig's clusters")


def run(args: argparse.Namespace) -> int:
    from meshlab import install
    from meshlab.mesh import connect, show_step

    mesh = connect(args.name, args.kubeconfig, args.context)
    install.uninstall(mesh.kube, show_step)
    return 0
