"""Send load to a URL and report as fortio does, in text or JSON.

From outside: a host name that is not this machine's is dialled at the ingress gateway, and the
request keeps it as its Host. All flags of `fortio load` are passed on.
"""

import argparse
import ipaddress
from urllib.parse import urlsplit

from meshlab.cli import option

EXAMPLE = """\
meshlab load -qps 50 -c 4 -t 10s http://bluegreen.example.com/api/color
meshlab load -n 300 -json - http://bluegreen.example.com/api/color"""


def arguments(parser: argparse.ArgumentParser) -> None:
    option.cluster(parser)
    option.output(parser)


def run(args: argparse.Namespace) -> int:
    from meshlab.apps.load import main

    flags = list(args.rest)
    if args.output == "json":
        flags = ["-json", "-", "-quiet", *flags]
    url = urlsplit(flags[-1] if flags else "")
    if "-resolve" not in flags and url.hostname and not is_here(url.hostname):
        flags = ["-resolve", gateway(args.name), *flags]
    return main(["load", *flags])


def gateway(name: str) -> str:
    """Return the ingress gateway's address and port, as fortio's `-resolve` takes them."""
    from meshlab.mesh import attach

    place = urlsplit(attach(name).ingress)
    return f"{place.hostname}:{place.port or 80}"


def is_here(host: str) -> bool:
    """Say whether a host is this machine or an address: nothing that a Gateway routes by name."""
    if host == "localhost":
        return True
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
