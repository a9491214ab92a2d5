"""Show what one proxy is configured to do, from the proxy itself (`istioctl proxy-config`).

POD is NAME.NAMESPACE, or NAME with -n; deploy/NAME is a pod of that Deployment. With -o json the
pieces of Envoy configuration that the rows were made from.
"""

import argparse
import json

from meshlab.cli import option
from meshlab.observe.config_dump import VIEWS, Row, View, choose, table

EXAMPLE = """\
meshlab proxy-config routes deploy/istio-ingressgateway.istio-system
meshlab proxy-config clusters -n bluegreen blue-5d8f7c9b6-x2k4q --fqdn green --port 80"""

COLUMNS = {
    "fqdn": "fqdn",
    "port": "port",
    "subset": "subset",
    "direction": "direction",
    "type": "type",
    "address": "addresses",
    "route": "name",  # istioctl's --name, which here names the cluster
    "status": "status",
    "cluster": "cluster",
}
"""Flag → column to choose rows by; a view that lacks the column shows no rows for it."""


def arguments(parser: argparse.ArgumentParser) -> None:
    option.cluster(parser)
    option.output(parser)
    parser.add_argument("what", choices=(*VIEWS, "all"))
    parser.add_argument("pod", help="NAME.NAMESPACE or deploy/NAME.NAMESPACE")
    parser.add_argument("-n", "--namespace", help="the pod's, where POD does not say it")
    for flag in COLUMNS:
        parser.add_argument(f"--{flag}", metavar="TEXT", help="only rows whose column holds this")


def run(args: argparse.Namespace) -> int:
    from meshlab.mesh import attach

    pod = attach(args.name).pod(f"{args.pod}.{args.namespace}" if args.namespace else args.pod)
    views = list(VIEWS.values()) if args.what == "all" else [VIEWS[args.what]]
    pages = {page: json.loads(pod.proxy_admin(page)) for page in {view.page for view in views}}
    found = {view.name: (view, chosen(view, view.rows(pages[view.page]), args)) for view in views}
    if args.output == "json":
        parts = {name: [dict(row.source) for row in rows] for name, (_, rows) in found.items()}
        option.show_json(parts if args.what == "all" else parts[args.what])
    else:
        print("\n\n".join(table(view, rows).text() for view, rows in found.values()))
    return 0


def chosen(view: View, rows: list[Row], args: argparse.Namespace) -> list[Row]:
    """Return the rows that the flags ask for; a view without that column has none."""
    names = {column.lower().split()[-1] for column in view.columns}
    wanted = {column: value for flag, column in COLUMNS.items() if (value := getattr(args, flag))}
    return choose(view, rows, **wanted) if wanted.keys() <= names else []
