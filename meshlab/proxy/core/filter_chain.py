"""Which filter chain a connection gets (Envoy `FilterChainMatch`)."""

from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Literal

from meshlab.errors import ConfigError
from meshlab.proxy.core.http_connection_manager import (
    HttpConnectionManager,
    IstioStats,
    MetadataExchange,
)
from meshlab.proxy.core.tcp_proxy import TcpProxy
from meshlab.proxy.core.tls import DownstreamTls


@dataclass(frozen=True, slots=True, kw_only=True)
class FilterChainMatch:
    """`listener.v3.FilterChainMatch`; an empty criterion takes everything."""

    destination_port: int | None = None
    prefix_ranges: tuple[str, ...] = ()
    """Destination addresses, CIDR notation."""
    server_names: tuple[str, ...] = ()
    """`a.b` or `*.b`; lower case."""
    transport_protocol: Literal["", "tls", "raw_buffer"] = ""
    application_protocols: tuple[str, ...] = ()
    direct_source_prefix_ranges: tuple[str, ...] = ()
    source_type: Literal["any", "same_ip_or_loopback", "external"] = "any"
    source_prefix_ranges: tuple[str, ...] = ()
    source_ports: tuple[int, ...] = ()


ANY_CONNECTION = FilterChainMatch()

NetworkFilter = IstioStats | MetadataExchange


@dataclass(frozen=True, slots=True, kw_only=True)
class FilterChain:
    """`listener.v3.FilterChain`: network filters that only watch, and the one that serves."""

    terminal: HttpConnectionManager | TcpProxy
    filters: tuple[NetworkFilter, ...] = ()
    name: str = ""
    match: FilterChainMatch = ANY_CONNECTION
    tls: DownstreamTls | None = None
    """None: raw bytes."""
    transport_socket_connect_timeout: float = 0.0
    """Seconds for the TLS handshake; 0: none (then 15 s, as a guard)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionFacts:
    """What a chain is chosen by: addresses as text, and what the inspectors saw."""

    destination_ip: str
    destination_port: int
    source_ip: str
    source_port: int
    server_name: str = ""
    """SNI, lower case."""
    transport_protocol: str = "raw_buffer"
    application_protocols: tuple[str, ...] = ()
    """ALPN in the client's order, or what the HTTP inspector found."""


Network = IPv4Network | IPv6Network


class _Candidate:
    """A chain with its address ranges parsed."""

    __slots__ = ("chain", "destinations", "direct_sources", "match", "sources")

    def __init__(self, chain: FilterChain, field: str) -> None:
        self.chain = chain
        self.match = chain.match
        self.destinations = networks(self.match.prefix_ranges, f"{field}.prefix_ranges")
        self.sources = networks(self.match.source_prefix_ranges, f"{field}.source_prefix_ranges")
        self.direct_sources = networks(
            self.match.direct_source_prefix_ranges, f"{field}.direct_source_prefix_ranges"
        )


def networks(ranges: tuple[str, ...], field: str) -> tuple[Network, ...]:
    """Return CIDR ranges parsed.

    Raises:
        ConfigError: no CIDR range.
    """
    try:
        return tuple(ip_network(text, strict=False) for text in ranges)
    except ValueError as error:
        raise ConfigError(f"no CIDR range: {error}", field=field, found=str(ranges)) from error


class FilterChainTable:
    """The chains of a listener.

    Envoy's rule, and its precedence: the criteria are gone through in a fixed order; each keeps the
    chains that name the connection's value most specifically, else those that do not care. There
    is no way back: a chain lost at one criterion is not tried again when a later one finds none.
    """

    __slots__ = ("_any_port", "_by_port", "default", "needs_tls_inspector")

    def __init__(self, chains: tuple[FilterChain, ...], default: FilterChain | None) -> None:
        """Index `chains`.

        Raises:
            ConfigError: a range that is none; two chains with equal matches.
        """
        self.default = default
        self._by_port: dict[int, list[_Candidate]] = {}
        self._any_port: list[_Candidate] = []
        matches: dict[FilterChainMatch, int] = {}
        for place, chain in enumerate(chains):
            field = f"filter_chains[{place}].filter_chain_match"
            if chain.match in matches:
                raise ConfigError(
                    f"the same match as filter_chains[{matches[chain.match]}]", field=field
                )
            matches[chain.match] = place
            candidate = _Candidate(chain, field)
            if chain.match.destination_port is None:
                self._any_port.append(candidate)
            else:
                self._by_port.setdefault(chain.match.destination_port, []).append(candidate)
        self.needs_tls_inspector = any(
            match.server_names or match.transport_protocol or match.application_protocols
            for match in matches
        )

    def choose(self, facts: ConnectionFacts) -> FilterChain | None:
        """Return the connection's chain; None: it is closed."""
        left = self._by_port.get(facts.destination_port, self._any_port)
        if len(left) == 1 and left[0].match == ANY_CONNECTION:
            return left[0].chain
        left = by_range(left, facts.destination_ip, _destinations)
        left = by_server_name(left, facts.server_name)
        left = by_transport_protocol(left, facts.transport_protocol)
        left = by_application_protocol(left, facts.application_protocols)
        left = by_range(left, facts.source_ip, _direct_sources)
        left = by_source_type(left, facts)
        left = by_range(left, facts.source_ip, _sources)
        left = by_source_port(left, facts.source_port)
        return left[0].chain if left else self.default


def _destinations(candidate: _Candidate) -> tuple[Network, ...]:
    return candidate.destinations


def _sources(candidate: _Candidate) -> tuple[Network, ...]:
    return candidate.sources


def _direct_sources(candidate: _Candidate) -> tuple[Network, ...]:
    return candidate.direct_sources


def by_range(
    left: list[_Candidate], text: str, ranges: Callable[[_Candidate], tuple[Network, ...]]
) -> list[_Candidate]:
    """Keep the chains with the longest prefix around the address, else those without ranges."""
    if not any(ranges(candidate) for candidate in left):
        return left
    address = ip_address(text) if text else None
    best = -1
    kept: list[_Candidate] = []
    for candidate in left:
        length = max(
            (
                network.prefixlen
                for network in ranges(candidate)
                if address is not None and address in network
            ),
            default=-1 if ranges(candidate) else 0,
        )
        # A range of length 0 and no range at all are the same to Envoy's trie.
        if length > best:
            best, kept = length, [candidate]
        elif length == best and length >= 0:
            kept.append(candidate)
    return kept if best >= 0 else []


def by_server_name(left: list[_Candidate], name: str) -> list[_Candidate]:
    """Keep exact names, else the longest wildcard, else those without names."""
    if not any(candidate.match.server_names for candidate in left):
        return left
    if name:
        wanted = name
        while True:
            kept = [candidate for candidate in left if wanted in candidate.match.server_names]
            if kept:
                return kept
            _, dot, rest = wanted.removeprefix("*.").partition(".")
            if not dot:
                break
            wanted = f"*.{rest}"
    return [candidate for candidate in left if not candidate.match.server_names]


def by_transport_protocol(left: list[_Candidate], protocol: str) -> list[_Candidate]:
    kept = [candidate for candidate in left if candidate.match.transport_protocol == protocol]
    return kept or [candidate for candidate in left if not candidate.match.transport_protocol]


def by_application_protocol(left: list[_Candidate], protocols: tuple[str, ...]) -> list[_Candidate]:
    """Keep the chains that name the first of the client's protocols that any chain names."""
    for protocol in protocols:
        kept = [
            candidate for candidate in left if protocol in candidate.match.application_protocols
        ]
        if kept:
            return kept
    return [candidate for candidate in left if not candidate.match.application_protocols]


def by_source_type(left: list[_Candidate], facts: ConnectionFacts) -> list[_Candidate]:
    if all(candidate.match.source_type == "any" for candidate in left):
        return left
    local = facts.source_ip == facts.destination_ip or ip_address(facts.source_ip).is_loopback
    wanted = "same_ip_or_loopback" if local else "external"
    kept = [candidate for candidate in left if candidate.match.source_type == wanted]
    return kept or [candidate for candidate in left if candidate.match.source_type == "any"]


def by_source_port(left: list[_Candidate], port: int) -> list[_Candidate]:
    kept = [candidate for candidate in left if port in candidate.match.source_ports]
    return kept or [candidate for candidate in left if not candidate.match.source_ports]
