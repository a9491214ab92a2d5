"""Install the mesh: control plane, ingress gateway, webhooks, CRDs, by plain manifests.

Any cluster will do: without --kubeconfig the embedded one of --name.
"""

import argparse

from meshlab.cli import option
from meshlab.cli.up import settings

EXAMPLE = """\
meshlab install
meshlab install --dry-run -o yaml > mesh.yaml
meshlab install --kubeconfig ~/other.yaml --set dataplane=envoy"""


def arguments(parser: argparse.ArgumentParser) -> None:
    option.cluster(parser)
    parser.add_argument("--kubeconfig", metavar="FILE", help="another cluster than --name's")
    parser.add_argument("--context", help="which of the kubeconfig's clusters")
    parser.add_argument("--dry-run", action="store_true", help="only print what would be applied")
    parser.add_argument("-o", "--output", choices=("yaml", "json"), default="yaml")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="a setting (dataplane=envoy, trust_domain=example.org)",
    )


def run(args: argparse.Namespace) -> int:
    from meshlab import install
    from meshlab.mesh import connect, show_step

    wished = install.settings(**settings(args.set))
    if args.dry_run:
        show(install.manifests(wished), args.output)
        return 0
    mesh = connect(args.name, args.kubeconfig, args.context)
    install.install(mesh.kube, wished, show_step)
    print("the mesh is installed; label a namespace to have its pods injected:")
    print("  kubectl label namespace default istio-injection=enabled")
    return 0


def show(objects: list[dict[str, object]], form: str) -> None:
    """Print objects as one YAML stream, or as a JSON List."""
    if form == "json":
        option.show_json({"apiVersion": "v1", "kind": "List", "items": objects})
        return
    from meshlab.change import to_yaml

    print("---\n".join(map(to_yaml, objects)), end="")
