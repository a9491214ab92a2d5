"""Print what a pod's containers wrote; `-c istio-proxy` is the access log."""

import argparse

from meshlab.cli import option

EXAMPLE = """\
meshlab logs -n bluegreen -l app=bluegreen-app -c istio-proxy --tail 5
meshlab logs -n bluegreen blue-5d8f7c9b6-x2k4q -f"""


def arguments(parser: argparse.ArgumentParser) -> None:
    option.cluster(parser)
    parser.add_argument("pod", nargs="?", help="one pod; without it, all that -l selects")
    parser.add_argument("-n", "--namespace", default="default")
    parser.add_argument(
        "-l", "--selector", default="", metavar="LABELS", help="app=blue,version=v1"
    )
    parser.add_argument("-c", "--container", help="default: the app's first")
    parser.add_argument("-f", "--follow", action="store_true", help="go on as more is written")
    parser.add_argument("--tail", type=int, metavar="LINES", help="only the last lines")


def run(args: argparse.Namespace) -> int:
    from meshlab import workload
    from meshlab.errors import ConfigError
    from meshlab.mesh import attach

    mesh = attach(args.name)
    if args.follow and not args.pod:
        raise ConfigError("follows one pod", object="--follow", fix="Name the pod.")
    if args.pod:
        pods = [mesh.pod(f"{args.pod}.{args.namespace}").object]
    else:
        pods = mesh.kube.list("pods", args.namespace, label_selector=args.selector)
    for pod in pods:
        name = pod["metadata"]["name"]
        container = args.container or workload.app_container(pod)
        prefix = "" if args.pod else f"[{name}] "
        lines = mesh.kube.logs(
            name, args.namespace, container=container, follow=args.follow, tail=args.tail
        )
        for line in lines:
            print(f"{prefix}{line}", flush=args.follow)
    return 0
