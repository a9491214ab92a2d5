"""What is wrong with a Gateway, as Istio's admission judges it."""

from meshlab.api.field import Problems, child, item
from meshlab.api.istio.gateway import Gateway, Server
from meshlab.control.rule import check

SUPPORTED = ("HTTP",)
NOT_YET = ("HTTPS", "GRPC", "GRPC-WEB", "HTTP2", "MONGO", "TCP", "TLS")


def check_gateway(problems: Problems, spec: Gateway) -> None:
    if not spec.servers:
        problems.refuse("spec.servers", "is missing", "nothing", "a list of servers")
    check.labels(problems, "spec.selector", spec.selector.items())
    for i, server in enumerate(spec.servers):
        _check_server(problems, item("spec.servers", i), server)
    names = [server.port.name for server in spec.servers]
    for i, name in enumerate(names):
        if name in names[:i]:
            problems.refuse(
                f"spec.servers[{i}].port.name", "is another server's, too", name, "unique names"
            )


def _check_server(problems: Problems, path: str, server: Server) -> None:
    check.port(problems, child(path, "port.number"), server.port.number)
    if not server.port.name:
        problems.refuse(child(path, "port.name"), "is missing", '""', "a name such as http")
    _check_protocol(problems, child(path, "port.protocol"), server.port.protocol)
    if server.bind and not check.is_address(server.bind):
        problems.refuse(child(path, "bind"), "is not an address", server.bind, "an IP address")
    if not server.hosts:
        problems.refuse(child(path, "hosts"), "is missing", "nothing", "a list of hosts, such as *")
    for i, name in enumerate(server.hosts):
        place = item(child(path, "hosts"), i)
        namespace, slash, dns = name.rpartition("/")
        if slash and namespace not in ("*", "."):
            check.label(problems, place, namespace)
        check.host(problems, place, dns)


def _check_protocol(problems: Problems, path: str, protocol: str) -> None:
    if protocol.upper() in NOT_YET:
        problems.refuse(path, "is not supported yet", protocol, ", ".join(SUPPORTED))
    elif protocol.upper() not in SUPPORTED:
        problems.refuse(path, "is not a protocol", protocol, ", ".join(SUPPORTED))
