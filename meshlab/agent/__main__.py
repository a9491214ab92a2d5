"""`python -m meshlab.agent`: the sidecar's first process, with pilot-agent's commands and flags."""

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from meshlab.errors import MeshlabError

POD_INFO = Path("/etc/istio/pod")
_EXAMPLES = """examples:
  proxy sidecar --domain shop.svc.cluster.local
  istio-iptables -p 15001 -z 15006 -u 1337 -m REDIRECT -i '*' -b '*' -d 15090,15021,15020
  request GET config_dump
"""
_PROXY_FLAGS = (
    ("domain", "DNS domain of the pod's namespace"),
    ("proxyLogLevel", "the data plane's log level"),
    ("proxyComponentLogLevel", "accepted for pilot-agent's sake, without effect"),
    ("log_output_level", "accepted for pilot-agent's sake, without effect"),
    ("configPath", "directory for bootstrap and sockets (/etc/istio/proxy)"),
    ("workloadSocket", "where secrets are served"),
    ("tokenPath", "the pod's token for the control plane"),
    ("rootCert", "what the control plane's certificate is checked against"),
    ("discoveryAddress", "host:port of the control plane's ADS"),
    ("caAddress", "host:port of the certificate authority"),
    ("adminPort", "the data plane's admin port (15000)"),
    ("statusPort", "health, metrics and app probes (15020)"),
    ("readyPort", "readiness (15021)"),
    ("prometheusPort", "the data plane's metrics (15090)"),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; a refusal is one line on stderr and exit code 1."""
    arguments = _parser().parse_args(argv)
    logging.basicConfig(
        level=logging.INFO,
        format="%(asctime)s\t%(levelname)s\t%(name)s\t%(message)s",
        stream=sys.stderr,
    )
    try:
        return _run(arguments)
    except MeshlabError as error:
        sys.stderr.write(f"{error}\n")
        return 1


def _run(arguments: argparse.Namespace) -> int:
    # Imports where they are needed: `wait` and `request` run in every pod's hooks.
    match arguments.command:
        case "proxy":
            # The data plane is started by exec right after fork: gRPC need not prepare for it.
            os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "false")
            import uvloop

            from meshlab.agent.main import run
            from meshlab.agent.settings import settings

            given = {k: v for k, v in vars(arguments).items() if v is not None and v is not False}
            return uvloop.run(run(settings(arguments.type, given, os.environ, POD_INFO)))
        case "istio-iptables":
            from meshlab.agent import capture

            return capture.command(arguments)
        case "request":
            from meshlab.agent.command import request

            return request(arguments.method, arguments.path, port=arguments.debug_port)
        case "wait":
            from meshlab.agent.command import wait

            return wait(
                port=arguments.status_port,
                timeout=arguments.timeout_seconds,
                period=arguments.period_millis / 1000,
            )
        case _:
            from meshlab.agent.command import drain

            return drain(port=arguments.status_port)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="pilot-agent",
        description="The sidecar's first process: identity, configuration, capture, health.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    proxy = commands.add_parser("proxy", help="run a sidecar or a gateway", allow_abbrev=False)
    proxy.add_argument("type", choices=("sidecar", "router"))
    for name, about in _PROXY_FLAGS:
        proxy.add_argument(f"--{name}", help=about)
    proxy.add_argument("--xdsPlaintext", action="store_true", help="no TLS to the control plane")
    capture = commands.add_parser(
        "istio-iptables", help="redirect the pod's traffic to the sidecar", allow_abbrev=False
    )
    _capture_flags(capture)
    request = commands.add_parser("request", help="ask the data plane's admin port")
    request.add_argument("method")
    request.add_argument("path")
    request.add_argument("--debug-port", type=int, default=15000)
    wait = commands.add_parser("wait", help="wait until the sidecar is ready")
    wait.add_argument("--timeoutSeconds", dest="timeout_seconds", type=float, default=60)
    wait.add_argument("--periodMillis", dest="period_millis", type=float, default=500)
    for command in (wait, commands.add_parser("drain", help="begin draining")):
        command.add_argument("--statusPort", dest="status_port", type=int, default=15020)
    return parser


def _capture_flags(parser: argparse.ArgumentParser) -> None:
    """Add istio-iptables' flags (istio.md 2.2)."""
    for flags, about in (
        (("-p", "--envoy-port"), "outbound listener (15001)"),
        (("-z", "--inbound-capture-port"), "inbound listener (15006)"),
        (("-u", "--proxy-uid"), "the sidecar's own user, never captured (1337)"),
        (("-g", "--proxy-gid"), "the sidecar's own group, never captured (1337)"),
        (("-m", "--istio-inbound-interception-mode"), "REDIRECT"),
        (("-i", "--istio-service-cidr"), "addresses captured outbound, or *"),
        (("-x", "--istio-service-exclude-cidr"), "addresses left alone"),
        (("-b", "--istio-inbound-ports"), "ports captured inbound, or *"),
        (("-d", "--istio-local-exclude-ports"), "ports left alone inbound"),
        (("-q", "--istio-outbound-ports"), "ports captured outbound whatever the address"),
        (("-o", "--istio-local-outbound-ports-exclude"), "ports left alone outbound"),
        (("-c", "--istio-exclude-interfaces"), "interfaces left alone"),
    ):
        parser.add_argument(*flags, help=about)
    parser.add_argument("--dry-run", action="store_true", help="print the rules only")
    parser.add_argument("--cleanup-only", action="store_true", help="remove the rules")
    parser.add_argument(
        "--backend",
        choices=("nft", "iptables"),
        help="default: nft, or iptables where nft is missing",
    )


if __name__ == "__main__":
    sys.exit(main())
