"""A proxy's configuration as `istioctl proxy-config` shows it, from its admin page `/config_dump`.

Envoy's admin JSON in (ours answers the same), rows with istioctl's columns out; each row keeps
the piece of configuration it was made from, for `-o json`.
"""

import base64
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from cryptography import x509

from meshlab.observe.table import Table

Json = Mapping[str, Any]

HTTP_MANAGER = "envoy.filters.network.http_connection_manager"
TCP_PROXY = "envoy.filters.network.tcp_proxy"


@dataclass(frozen=True, slots=True)
class Row:
    cells: Sequence[str]
    source: Json
    """The configuration this row shows."""


def _section(dump: Json, kind: str) -> Json:
    """Return the part of a dump by its type, `ClustersConfigDump`."""
    return next((c for c in dump.get("configs") or () if c["@type"].endswith(f".{kind}")), {})


def _items(section: Json, lists: Iterable[str], key: str) -> Iterator[Json]:
    for name in lists:
        for item in section.get(name) or ():
            if key in item:
                yield item[key]


def _object_name(metadata: Json | None) -> str:
    """Return `name.namespace` of the Istio object that a resource was made from, or ""."""
    path = ((metadata or {}).get("filter_metadata") or {}).get("istio", {}).get("config", "")
    parts = path.split("/")  # /apis/GROUP/VERSION/namespaces/NAMESPACE/KIND/NAME
    return f"{parts[-1]}.{parts[-3]}" if len(parts) >= 4 else ""


CLUSTER_COLUMNS = ("SERVICE FQDN", "PORT", "SUBSET", "DIRECTION", "TYPE", "DESTINATION RULE")


def clusters(dump: Json) -> list[Row]:
    section = _section(dump, "ClustersConfigDump")
    lists = ("static_clusters", "dynamic_active_clusters", "dynamic_warming_clusters")
    return sorted(
        (_cluster(c) for c in _items(section, lists, "cluster")), key=lambda r: tuple(r.cells)
    )


def _cluster(cluster: Json) -> Row:
    parts = cluster["name"].split("|")
    if len(parts) == 4:
        direction, port, subset, fqdn = parts
    else:
        direction, port, subset, fqdn = "", "", "", cluster["name"]
    kind = cluster.get("type", "STATIC")
    rule = _object_name(cluster.get("metadata"))
    return Row((fqdn, port or "-", subset or "-", direction or "-", kind, rule), cluster)


LISTENER_COLUMNS = ("ADDRESSES", "PORT", "MATCH", "DESTINATION")


def listeners(dump: Json) -> list[Row]:
    section = _section(dump, "ListenersConfigDump")
    active = (
        item.get("active_state") or item.get("warming_state") or {}
        for item in section.get("dynamic_listeners") or ()
    )
    found = [
        *_items(section, ("static_listeners",), "listener"),
        *(state["listener"] for state in active if "listener" in state),
    ]
    rows = [row for listener in found for row in _listener(listener)]
    return sorted(rows, key=lambda r: (int(r.cells[1]) if r.cells[1].isdigit() else 0, r.cells[0]))


def _listener(listener: Json) -> Iterator[Row]:
    address = listener.get("address") or {}
    sockets = [address, *(a["address"] for a in listener.get("additional_addresses") or ())]
    hosts = [s.get("socket_address", {}).get("address", "") for s in sockets]
    pipe = address.get("pipe", {}).get("path", "")
    port = str(address.get("socket_address", {}).get("port_value", "")) or "-"
    chains = list(listener.get("filter_chains") or ())
    if listener.get("default_filter_chain"):
        chains.append(listener["default_filter_chain"])
    for chain in chains:
        match = _chain_match(chain.get("filter_chain_match") or {})
        destination = _destination(chain.get("filters") or ())
        yield Row((",".join(filter(None, hosts)) or pipe, port, match, destination), listener)


def _chain_match(match: Json) -> str:
    parts = []
    if match.get("server_names"):
        parts.append("SNI: " + ",".join(match["server_names"]))
    if match.get("transport_protocol"):
        parts.append("Trans: " + match["transport_protocol"])
    if match.get("application_protocols"):
        parts.append("App: " + ",".join(match["application_protocols"]))
    port = f":{match['destination_port']}" if match.get("destination_port") else ""
    ranges = [
        f"{r.get('address_prefix', '')}/{r.get('prefix_len', 0)}"
        for r in match.get("prefix_ranges") or ()
    ]
    if ranges or port:
        parts.append(f"Addr: {','.join(ranges) or '*'}{port}")
    return "; ".join(parts) or "ALL"


def _destination(filters: Iterable[Json]) -> str:
    for item in filters:
        config = item.get("typed_config") or {}
        if item.get("name") == HTTP_MANAGER:
            if "rds" in config:
                return f"Route: {config['rds'].get('route_config_name', '')}"
            return f"Inline Route: {_inline_route(config.get('route_config') or {})}"
        if item.get("name") == TCP_PROXY:
            return _tcp_destination(config)
    return "Non-HTTP/Non-TCP"


def _inline_route(config: Json) -> str:
    found = []
    for host in config.get("virtual_hosts") or ():
        domains = ",".join(d for d in host.get("domains") or () if d != "*")
        paths = ",".join(_route_match(route.get("match") or {}) for route in host.get("routes", ()))
        found.append(f"{domains}{paths}")
    return "; ".join(found)


def _tcp_destination(config: Json) -> str:
    weighted = (config.get("weighted_clusters") or {}).get("clusters")
    if weighted:
        return "Cluster: " + ",".join(f"{c['name']} ({c.get('weight', 0)})" for c in weighted)
    cluster = str(config.get("cluster", ""))
    return cluster if "|" not in cluster else f"Cluster: {cluster}"


ROUTE_COLUMNS = ("NAME", "VHOST NAME", "DOMAINS", "MATCH", "VIRTUAL SERVICE")


def routes(dump: Json) -> list[Row]:
    section = _section(dump, "RoutesConfigDump")
    lists = ("static_route_configs", "dynamic_route_configs")
    rows = [
        row for config in _items(section, lists, "route_config") for row in _route_config(config)
    ]
    return sorted(rows, key=lambda r: (len(r.cells[0]), r.cells[0]))  # 80 before 8080


def _route_config(config: Json) -> Iterator[Row]:
    name = config.get("name", "")
    for host in config.get("virtual_hosts") or ():
        domains = _domains(host.get("domains") or ())
        for route in host.get("routes") or ():
            match = _route_match(route.get("match") or {})
            service = _object_name(route.get("metadata"))
            yield Row(
                (name, host.get("name", ""), domains, match, service or _answer(route)), route
            )
        if not host.get("routes"):
            yield Row((name, host.get("name", ""), domains, "", "404"), host)


def _domains(domains: Sequence[str]) -> str:
    """Return the shortest spelling and how many more there are, as istioctl does."""
    first = domains[0] if domains else ""
    more = sorted({d.partition(":")[0] for d in domains if ":" not in d and d != first}, key=len)
    shown = [first.partition(":")[0] if first != "*" else "*", *more[:1]]
    left = len(more) - 1
    return ", ".join(shown) + (f" + {left} more..." if left > 0 else "")


def _route_match(match: Json) -> str:
    if "prefix" in match:
        path = f"{match['prefix']}*"
    elif "path_separated_prefix" in match:
        path = f"PathPrefix:{match['path_separated_prefix']}"
    elif "path" in match:
        path = match["path"]
    else:
        path = "regex " + (match.get("safe_regex") or {}).get("regex", "")
    conditions = [h.get("name", "") for h in match.get("headers") or ()]
    return f"{path} [{', '.join(conditions)}]" if conditions else str(path)


def _answer(route: Json) -> str:
    """Return the status of a route that answers by itself."""
    return str((route.get("direct_response") or {}).get("status", ""))


ENDPOINT_COLUMNS = ("ENDPOINT", "STATUS", "OUTLIER CHECK", "CLUSTER")


def endpoints(page: Json) -> list[Row]:
    """Return the endpoints of admin page `/clusters?format=json`, as the proxy sees them now."""
    rows = [
        Row(_endpoint(host, cluster["name"]), {"cluster": cluster["name"], **host})
        for cluster in page.get("cluster_statuses") or ()
        for host in cluster.get("host_statuses") or ()
    ]
    return sorted(rows, key=lambda r: (r.cells[3], r.cells[0]))


def _endpoint(host: Json, cluster: str) -> tuple[str, str, str, str]:
    address = host.get("address") or {}
    socket = address.get("socket_address")
    if socket:
        shown = f"{socket.get('address', '')}:{socket.get('port_value', 0)}"
    else:
        shown = "unix://" + (address.get("pipe") or {}).get("path", "")
    health = host.get("health_status") or {}
    outlier = "FAILED" if health.get("failed_outlier_check") else "OK"
    return shown, str(health.get("eds_health_status", "HEALTHY")), outlier, cluster


SECRET_COLUMNS = (
    "RESOURCE NAME",
    "TYPE",
    "STATUS",
    "VALID CERT",
    "SERIAL NUMBER",
    "NOT AFTER",
    "NOT BEFORE",
)


def secrets(dump: Json, now: datetime | None = None) -> list[Row]:
    section = _section(dump, "SecretsConfigDump")
    time = now or datetime.now(UTC)
    rows = []
    for status, name in (
        ("ACTIVE", "static_secrets"),
        ("ACTIVE", "dynamic_active_secrets"),
        ("WARMING", "dynamic_warming_secrets"),
    ):
        rows += [_secret(item, status, time) for item in section.get(name) or ()]
    return rows


def _secret(item: Json, status: str, now: datetime) -> Row:
    secret = item.get("secret") or {}
    chain = (secret.get("tls_certificate") or {}).get("certificate_chain")
    trusted = (secret.get("validation_context") or {}).get("trusted_ca")
    kind = "Cert Chain" if chain else "CA" if trusted else "-"
    pem = _pem(chain or trusted or {})
    name = item.get("name") or secret.get("name", "")
    if not pem:
        return Row((name, kind, status, "false", "-", "-", "-"), item)
    leaf = x509.load_pem_x509_certificates(pem)[0]
    begins, ends = leaf.not_valid_before_utc, leaf.not_valid_after_utc
    valid = "true" if begins <= now < ends else "false"
    number = f"{leaf.serial_number:x}"
    return Row((name, kind, status, valid, number, _zulu(ends), _zulu(begins)), item)


def _pem(data: Json) -> bytes:
    if data.get("inline_bytes"):
        return base64.b64decode(data["inline_bytes"])
    return str(data.get("inline_string", "")).encode()


def _zulu(time: datetime) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass(frozen=True, slots=True)
class View:
    """One of `proxy-config`'s tables."""

    name: str
    columns: Sequence[str]
    rows: Callable[[Json], list[Row]]
    page: str = "config_dump"
    """Admin page it is made from."""


VIEWS = {
    view.name: view
    for view in (
        View("clusters", CLUSTER_COLUMNS, clusters),
        View("listeners", LISTENER_COLUMNS, listeners),
        View("routes", ROUTE_COLUMNS, routes),
        View("endpoints", ENDPOINT_COLUMNS, endpoints, page="clusters?format=json"),
        View("secret", SECRET_COLUMNS, secrets),
    )
}


def table(view: View, rows: Sequence[Row], note: str = "") -> Table:
    """Return the rows under istioctl's headers; `note` says which command shows the same."""
    return Table(view.columns, [row.cells for row in rows], note=note)


def choose(view: View, rows: Sequence[Row], **wanted: str | None) -> list[Row]:
    """Return the rows whose columns hold the wanted texts (`fqdn="blue"`, `port="80"`).

    A column is named by the last word of its header in small letters (`DESTINATION RULE`: `rule`,
    `ADDRESSES`: `addresses`); numbers must be equal, other texts contained.
    """
    names = [column.lower().split()[-1] for column in view.columns]
    result = list(rows)
    for name, text in wanted.items():
        if text:
            position = names.index(name)
            result = [row for row in result if _fits(row.cells[position], text)]
    return result


def _fits(cell: str, text: str) -> bool:
    return cell == text if text.isdigit() else text.lower() in cell.lower()
