"""Make a cluster with the mesh on it, or bring an existing one up again.

Two clusters with different names live side by side. A cluster outlives this terminal until
`meshlab down`.
"""

import argparse
import time

from meshlab.cli import option

EXAMPLE = """\
meshlab up
meshlab up --name two --no-mesh
meshlab up --set dataplane=envoy"""


def arguments(parser: argparse.ArgumentParser) -> None:
    option.cluster(parser)
    parser.add_argument(
        "--cluster", choices=("embedded",), default="embedded", help="what makes the cluster"
    )
    parser.add_argument("--no-mesh", action="store_true", help="only the cluster")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="a setting of the mesh's installation (dataplane=envoy)",
    )


def run(args: argparse.Namespace) -> int:
    from meshlab import mesh
    from meshlab.wait import say

    start = time.monotonic()
    made = mesh.up(args.cluster, args.name, mesh=not args.no_mesh, settings=settings(args.set))
    say(f"ready in {time.monotonic() - start:.1f} s")
    suffix = "" if args.name == option.DEFAULT_NAME else f" --name {args.name}"
    print(f"export KUBECONFIG=$(meshlab kubeconfig{suffix})")
    if not args.no_mesh:
        print(f"# ingress gateway: {made.ingress}")
    return 0


def settings(pairs: list[str]) -> dict[str, str]:
    """Return `KEY=VALUE` flags as a mapping.

    Raises:
        ConfigError: one has no `=`.
    """
    from meshlab.errors import ConfigError

    result = {}
    for pair in pairs:
        key, sign, value = pair.partition("=")
        if not (key and sign):
            raise ConfigError("is not KEY=VALUE", object="--set", found=repr(pair))
        result[key] = value
    return result
