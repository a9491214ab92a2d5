"""`meshlab-control`: the control plane process, inside a cluster as istiod or outside by hand."""

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import uvloop

from meshlab.control.wiring import from_environment, run
from meshlab.errors import MeshlabError

_EXAMPLES = """examples:
  meshlab-control                                     in a pod: everything, as istiod
  meshlab-control --kubeconfig F --xds-plaintext 127.0.0.1:15010 --debug 127.0.0.1:15014
                                                      outside: watches and serves, writes nothing
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run until a signal; a refusal is one line on stderr and exit code 1."""
    given = {k: v for k, v in vars(_parser().parse_args(argv)).items() if v is not None}
    logging.basicConfig(
        level=logging.INFO,
        format="%(asctime)s\t%(levelname)s\t%(name)s\t%(message)s",
        stream=sys.stderr,
    )
    logging.getLogger("httpx").setLevel(logging.WARNING)
    if "kubeconfig" in given:
        # By hand, next to an istiod or without one: look, do not touch, unless told.
        given = {"secure": "", "webhook": "", "debug": "", **given}
    try:
        return uvloop.run(run(from_environment(os.environ, given)))
    except MeshlabError as error:
        sys.stderr.write(f"{error}\n")
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="meshlab-control",
        description="The mesh's control plane.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--kubeconfig", type=Path, help="run outside a cluster, with this access")
    parser.add_argument("--context", help="context in the kubeconfig (default: its current one)")
    parser.add_argument("--namespace", help="the mesh's root namespace (istio-system)")
    parser.add_argument("--xds-plaintext", dest="plaintext", metavar="HOST:PORT")
    parser.add_argument("--xds-tls", dest="secure", metavar="HOST:PORT", help="in a pod: :15012")
    parser.add_argument("--webhook", metavar="HOST:PORT", help="in a pod: :15017")
    parser.add_argument("--debug", metavar="HOST:PORT", help="in a pod: :15014")
    parser.add_argument("--trust-domain", dest="trust_domain")
    parser.add_argument("--cluster-domain", dest="cluster_domain")
    return parser


if __name__ == "__main__":
    sys.exit(main())
