"""What a data plane can do, from the extensions its node lists; it is never sent anything else."""

from dataclasses import dataclass

from meshlab.control.snapshot import Proxy

METADATA_EXCHANGE = "istio.metadata_exchange"
ALPN = "istio.alpn"
STATS = "istio.stats"
FAULT = "envoy.filters.http.fault"
GRPC_STATS = "envoy.filters.http.grpc_stats"

# Envoy has no extension named "HTTP/2"; a data plane that serves gRPC-Web has it.
HTTP2 = frozenset({"envoy.http2", "envoy.filters.http.grpc_web"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """Part of the key of what proxies share, so it holds nothing that differs without need."""

    metadata_exchange: bool = False
    alpn: bool = False
    stats: bool = False
    fault: bool = False
    grpc_stats: bool = False
    http2: bool = False


def capabilities(proxy: Proxy) -> Capabilities:
    has = proxy.extensions
    return Capabilities(
        metadata_exchange=METADATA_EXCHANGE in has,
        alpn=ALPN in has,
        stats=STATS in has,
        fault=FAULT in has,
        grpc_stats=GRPC_STATS in has and bool(HTTP2 & has),
        http2=bool(HTTP2 & has),
    )
