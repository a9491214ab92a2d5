"""Add the sidecar to the pods of manifests, and print them (`istioctl kube-inject`).

For clusters without the webhook, and to see what the webhook would do.
"""

import argparse
import sys

from meshlab.cli import option

EXAMPLE = """\
meshlab kube-inject -f deployment.yaml | kubectl apply -f -
diff deployment.yaml <(meshlab kube-inject -f deployment.yaml)"""


def arguments(parser: argparse.ArgumentParser) -> None:
    option.cluster(parser)
    parser.add_argument(
        "-f", "--filename", required=True, metavar="FILE", help="a file, a folder, or - for input"
    )
    parser.add_argument(
        "-n", "--namespace", default="default", help="for objects that name none (default: default)"
    )
    parser.add_argument("-o", "--output", choices=("yaml", "json"), default="yaml")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="a setting of the installation, where it is not the default",
    )


def run(args: argparse.Namespace) -> int:
    from meshlab import install, manifest
    from meshlab.cli.install import show
    from meshlab.cli.up import settings
    from meshlab.control.inject import inject_manifest

    source = args.filename if args.filename != "-" else sys.stdin.read() + "\n"
    wished = install.settings(**settings(args.set))
    documents = manifest.read(source)
    made = [inject_manifest(one, args.namespace, wished.injection) for one in documents]
    show(made, args.output)
    return 0
