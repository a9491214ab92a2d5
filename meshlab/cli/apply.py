"""Apply manifests, show what changed, and wait until every proxy has acknowledged it."""

import argparse
import sys

from meshlab.change import Change
from meshlab.cli import option

EXAMPLE = """\
meshlab apply -f labs/manifests/04/traffic-shift.yaml
kubectl kustomize . | meshlab apply -n bluegreen -f -"""


def arguments(parser: argparse.ArgumentParser) -> None:
    option.cluster(parser)
    option.output(parser)
    parser.add_argument(
        "-f", "--filename", required=True, metavar="FILE", help="a file, a folder, or - for input"
    )
    parser.add_argument("-n", "--namespace", help="for objects that name none")


def run(args: argparse.Namespace) -> int:
    from meshlab.mesh import attach

    source = args.filename if args.filename != "-" else sys.stdin.read() + "\n"
    changes = attach(args.name).apply(source, namespace=args.namespace)
    if args.output == "json":
        option.show_json([_record(change) for change in changes.changes])
    else:
        print(changes.text())
    return 0 if changes.in_force else 1


def _record(change: Change) -> dict[str, object]:
    told = change.acknowledged
    record: dict[str, object] = {"object": change.reference, "result": change.verb}
    if told is not None:
        record["acknowledged"] = {
            "synced": told.synced,
            "seconds": told.seconds,
            "proxies": list(told.proxies),
            "pending": list(told.pending),
        }
    return record
