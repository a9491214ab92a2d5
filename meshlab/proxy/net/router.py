"""One request, from its head to its log line: filters, route, tries, response (Envoy's router)."""

from typing import TYPE_CHECKING, Protocol

from meshlab.proxy.core.circuit_breaker import Breakers
from meshlab.proxy.core.fault import CompiledFault
from meshlab.proxy.core.forwarded import forward, remove_hop_by_hop, request_id
from meshlab.proxy.core.head import Headers
from meshlab.proxy.core.http1 import (
    CHUNKED,
    RequestHead,
    ResponseHead,
    encode_chunk,
    encode_last_chunk,
)
from meshlab.proxy.core.load_balancer.base import Host
from meshlab.proxy.core.metadata_exchange import HEADER, ID_HEADER, decode
from meshlab.proxy.core.path import (
    has_escaped_slash,
    merge_slashes,
    normalize,
    split,
    unescape_slashes,
)
from meshlab.proxy.core.redirect import location
from meshlab.proxy.core.retry import Reset, Retry, with_request_headers
from meshlab.proxy.core.route import (
    CompiledRoute,
    DirectResponse,
    Redirect,
    RouteAction,
    is_grpc,
    without_port,
)
from meshlab.proxy.core.stream_info import (
    DC,
    DI,
    DPE,
    DT,
    FI,
    NC,
    NR,
    SI,
    UC,
    UF,
    UH,
    UMSDR,
    UO,
    UPE,
    UR,
    URX,
    UT,
    ConnectionInfo,
    StreamInfo,
)
from meshlab.proxy.core.timeout import timeouts
from meshlab.proxy.core.weighted_cluster import Share
from meshlab.proxy.net.clock import Timer
from meshlab.proxy.net.manager import Manager
from meshlab.proxy.net.pool import HostPool
from meshlab.proxy.net.upstream_http1 import UpstreamHttp1

if TYPE_CHECKING:
    from meshlab.proxy.net.cluster import ClusterState

GRPC_STATUS = {400: 13, 401: 16, 403: 7, 404: 12, 429: 14, 502: 14, 503: 14, 504: 14}
"""HTTP status of an answer of our own → gRPC status (Envoy `httpToGrpcStatus`)."""
RESET_FLAGS = {
    Reset.CONNECT_FAILURE: UF,
    Reset.LOCAL_CONNECT_FAILURE: UF,
    Reset.CONNECT_TIMEOUT: UF,
    Reset.TERMINATION: UC,
    Reset.OVERFLOW: UO,
    Reset.PROTOCOL_ERROR: UPE,
    Reset.REMOTE_RESET: UR,
    Reset.PER_TRY_TIMEOUT: UT,
}
BODILESS = frozenset({b"GET", b"HEAD", b"DELETE", b"TRACE", b"CONNECT"})
"""Methods whose requests say nothing of a body that they have not."""
STEERING = frozenset(
    {
        b"x-envoy-retry-on",
        b"x-envoy-retry-grpc-on",
        b"x-envoy-max-retries",
        b"x-envoy-retriable-status-codes",
        b"x-envoy-retriable-header-names",
        b"x-envoy-upstream-rq-timeout-ms",
        b"x-envoy-upstream-rq-per-try-timeout-ms",
    }
)
"""What a request asks of this proxy, and of this proxy only."""
TUNNEL = -3
"""Body length after an upgrade: bytes, for as long as they come."""


class Downstream(Protocol):
    """The server side of a connection, as a request sees it."""

    info: ConnectionInfo

    def close_after_response(self) -> None:
        """Take no further request."""
        ...

    def send_informational(self, head: ResponseHead) -> None:
        """Pass on a 1xx."""
        ...

    def send_response(
        self, status: int, reason: bytes, headers: Headers, length: int, data: bytes, end: bool
    ) -> None:
        """Begin the response; `length` as in `ResponseHead.body`."""
        ...

    def send_data(self, data: bytes, end: bool, trailers: Headers | None) -> None:
        """Send more of its body."""
        ...

    def finished(self, stream: "Stream") -> None:
        """Response and request are over, or nobody wants the rest."""
        ...

    def abort(self) -> None:
        """The response cannot be completed: the client must see that."""
        ...

    def pause_reading(self) -> None:
        """Read no more of the request for now."""
        ...

    def resume_reading(self) -> None:
        """Read on."""
        ...


class Stream:
    """A request under way. It keeps the route and the cluster it began with.

    Attributes:
        route: None before routing, and where there is none.
        upstream: the connection of the current try; None between tries.
        request_done: the client has sent all of the request.
        response_started: the response's head has gone downstream.
    """

    __slots__ = (
        "_attempts",
        "_breakers",
        "_delay",
        "_external",
        "_fault",
        "_host",
        "_idle_seconds",
        "_idle_timer",
        "_last_activity",
        "_length_limit",
        "_max_timer",
        "_paused_upstream",
        "_per_try",
        "_per_try_timer",
        "_pool",
        "_replay",
        "_replay_size",
        "_request_timer",
        "_retries_left",
        "_retry",
        "_retry_taken",
        "_retry_timer",
        "_rewritten",
        "_share",
        "_timeout",
        "_timer",
        "_trailers",
        "_tried",
        "cluster",
        "connection",
        "done",
        "head",
        "info",
        "manager",
        "request_done",
        "response_started",
        "route",
        "tunnel",
        "upstream",
    )

    def __init__(self, connection: Downstream, manager: Manager, head: RequestHead) -> None:
        runtime = manager.runtime
        self.connection = connection
        self.manager = manager
        self.head = head
        self.info = StreamInfo(connection.info, runtime.wall(), runtime.now())
        self.route: CompiledRoute | None = None
        self.cluster: ClusterState | None = None
        self.upstream: UpstreamHttp1 | None = None
        self.request_done = False
        self.response_started = False
        self.done = False
        self.tunnel = False
        self._share: Share | None = None
        self._host: Host | None = None
        self._pool: HostPool | None = None
        self._breakers: Breakers | None = None
        self._retry: Retry | None = None
        self._retries_left = 0
        self._retry_taken = False
        self._attempts = 0
        self._tried: list[Host] | None = None
        self._replay: list[bytes] = []
        self._replay_size = 0
        self._trailers: Headers | None = None
        self._timeout = 0.0
        self._per_try = 0.0
        self._timer: Timer | None = None
        self._per_try_timer: Timer | None = None
        self._retry_timer: Timer | None = None
        self._idle_timer: Timer | None = None
        self._max_timer: Timer | None = None
        self._request_timer: Timer | None = None
        self._delay: Timer | None = None
        self._external = False
        self._fault: CompiledFault | None = None
        self._idle_seconds = 0.0
        self._last_activity = 0.0
        self._length_limit = 0
        self._paused_upstream = False
        self._rewritten = False

    # From downstream

    def start(self, *, end: bool) -> None:
        """Take the head; `end`: there is no body."""
        manager = self.manager
        config = manager.config
        info = self.info
        head = self.head
        stats = manager.stats
        stats.rq_total.value += 1
        stats.rq_http1_total.value += 1
        stats.rq_active.value += 1
        self.request_done = end
        if end:
            info.last_downstream_byte_received = info.start
        info.protocol = "HTTP/1.1" if head.minor else "HTTP/1.0"
        info.method = head.method
        info.path = head.target
        info.authority = head.authority or b""
        info.request_headers = head.headers
        info.downstream_remote_address = info.connection.remote_address
        if not self._accept_head():
            return
        idle = config.stream_idle_timeout
        if idle:
            self._start_idle(idle)
        if config.request_timeout and not end:
            self._request_timer = manager.runtime.timers.after(
                config.request_timeout, self._on_request_timeout
            )
        if config.max_stream_duration:
            self._max_timer = manager.runtime.timers.after(
                config.max_stream_duration, self._on_max_duration
            )
        table = manager.table()
        if self._external and table is not None:
            for name in table.config.internal_only_headers:
                head.headers.remove(name)
        self.route = table.route(head, manager.runtime.dice()) if table is not None else None
        if self.route is not None:
            info.route_name = self.route.config.name
            info.virtual_host = self.route.host.name
            info.route_metadata = self.route.config.metadata
            if isinstance(self.route.action, RouteAction) and not self._needs_tls(self.route):
                self._choose_cluster(self.route, self.route.action)
        if manager.has_fault:
            self._inject_fault()
        else:
            self._route()

    def _accept_head(self) -> bool:
        """Check and complete the request's head; False: it was answered."""
        manager = self.manager
        config = manager.config
        head = self.head
        info = self.info
        if head.authority is None:
            if not config.default_host_for_http_10:
                return self._refuse(400, b"", "missing_host_header")
            head.authority = config.default_host_for_http_10
            head.headers.set(b"host", head.authority)
            info.authority = head.authority
        if head.method == b"CONNECT":
            info.flags |= NR
            info.path = b""
            return self._refuse(404, b"", "route_not_found")
        if head.scheme == b"https" and not info.connection.tls_version:
            self._forget_head()
            return self._refuse(403, b"Forbidden", "http1.https_url_on_plaintext_connection")
        if not head.target.startswith(b"/"):
            manager.stats.rq_non_relative_path.value += 1
            self.reply(404, b"", "absolute_path_rejected")
            return False
        if b"#" in head.target:
            return self._refuse(400, b"", "path_normalization_failed")
        if config.headers_with_underscores != "allow" and not self._check_underscores():
            return False
        remove_hop_by_hop(head.headers)
        if head.upgrade == b"h2c":  # RFC 9113 §3.1: given up by HTTP/2, and ignored as Envoy does
            head.upgrade = b""
            head.headers.remove(b"http2-settings")
        if (config.normalize_path or config.merge_slashes or config.escaped_slashes != "keep") and (
            not self._normalize_path()
        ):
            return False
        if config.strip_any_host_port or config.strip_matching_host_port:
            self._strip_port()
        peer_ip = info.connection.remote_address.rpartition(":")[0].strip("[]")
        remote, self._external = forward(head, config, info.connection, peer_ip)
        if remote and remote != peer_ip:
            info.downstream_remote_address = f"[{remote}]:0" if ":" in remote else f"{remote}:0"
        if config.scheme_overwrite:
            info.scheme = config.scheme_overwrite.encode()
        else:
            info.scheme = head.headers.get(b"x-forwarded-proto") or b"http"
        head.scheme = info.scheme
        if config.generate_request_id:
            known = head.headers.get(b"x-request-id")
            if known is None or (self._external and not config.preserve_external_request_id):
                known = request_id(manager.runtime.random_bytes(16))
                head.headers.set(b"x-request-id", known)
            info.request_id = known
        if manager.exchange_metadata and info.connection.traffic_direction == "inbound":
            self._read_downstream_peer()
        return True

    def _forget_head(self) -> None:
        """What the codec refuses has no method or path in the log."""
        self.info.flags |= DPE
        self.info.method = b""
        self.info.path = b""

    def _refuse(self, status: int, body: bytes, details: str) -> bool:
        """Answer a request that no filter shall see, and the last of its connection."""
        self.connection.close_after_response()
        self.reply(status, body, details)
        return False

    def _check_underscores(self) -> bool:
        headers = self.head.headers
        bad = [name for name in headers.names if b"_" in name]
        if bad and self.manager.config.headers_with_underscores == "reject_request":
            self._forget_head()
            return self._refuse(400, b"Bad Request", "http1.unexpected_underscore")
        for name in bad:
            headers.remove(name)
        return True

    def _normalize_path(self) -> bool:
        config = self.manager.config
        head = self.head
        path, rest = split(head.target)
        if not path.startswith(b"/"):
            return True
        if config.escaped_slashes != "keep" and has_escaped_slash(path):
            path = unescape_slashes(path)
            if config.escaped_slashes == "reject":
                self.info.path = path + rest
                return self._refuse(400, b"", "path_normalization_failed")
            if config.escaped_slashes == "unescape_redirect":
                self._redirect(307, path + rest)
                return False
        if config.normalize_path:
            if b"%00" in path:
                return self._refuse(400, b"", "path_normalization_failed")
            path = normalize(path)
        if config.merge_slashes:
            path = merge_slashes(path)
        head.target = path + rest
        self.info.path = head.target
        return True

    def _strip_port(self) -> None:
        head = self.head
        authority = head.authority or b""
        bare = without_port(authority)
        if bare == authority:
            return
        config = self.manager.config
        local = self.info.connection.local_address.rpartition(":")[2].encode()
        if config.strip_any_host_port or authority.endswith(b":" + local):
            head.authority = bare
            head.headers.set(b"host", bare)
            self.info.authority = bare

    def _read_downstream_peer(self) -> None:
        headers = self.head.headers
        value = headers.get(HEADER)
        if value is not None:
            self.info.downstream_peer = decode(value, headers.get(ID_HEADER) or b"")
            headers.remove(HEADER)
            headers.remove(ID_HEADER)

    def on_data(self, data: bytes, end: bool, trailers: Headers | None) -> None:
        """Take more of the request's body."""
        info = self.info
        info.bytes_received += len(data)
        runtime = self.manager.runtime
        self._last_activity = runtime.now()
        if end:
            self.request_done = True
            info.last_downstream_byte_received = self._last_activity
            if self._request_timer is not None:
                self._request_timer.cancel()
        if self.done:
            if end:
                self.connection.finished(self)
            return
        self._trailers = trailers
        wire = self._frame(data, end=end)
        upstream = self.upstream
        if upstream is not None:
            info.upstream_bytes_sent += len(wire)
            upstream.send(wire, end=end)
        if self._retry is not None or upstream is None:
            self._keep_for_replay(wire)
        if end and self.route is not None and not self.tunnel:
            self._start_timeouts()

    def _frame(self, data: bytes, *, end: bool) -> bytes:
        if self.head.body != CHUNKED or self.tunnel:
            return data
        wire = encode_chunk(data) if data else b""
        if end:
            cluster = self.cluster
            keep = cluster is not None and cluster.config.enable_trailers
            wire += encode_last_chunk(self._trailers if keep else None)
        return wire

    def _keep_for_replay(self, wire: bytes) -> None:
        if not wire:
            return
        self._replay.append(wire)
        self._replay_size += len(wire)
        if self._replay_size <= self._length_limit:
            return
        if self.upstream is None:
            # Nobody takes the body yet: the client waits until there is a connection.
            self.connection.pause_reading()
        else:
            self._abandon_replay()
            self._replay = []
            self._replay_size = 0

    def _abandon_replay(self) -> None:
        """The body is too large to be kept for another try."""
        if self._retry is not None:
            self._retry = None
            if self.cluster is not None:
                self.cluster.stats.retry_or_shadow_abandoned.value += 1

    def on_downstream_closed(self) -> None:
        """The client went away before the response was complete."""
        if self.done:
            return
        info = self.info
        info.flags |= DC
        if not info.response_code_details or info.response_code_details == "via_upstream":
            info.response_code_details = "downstream_remote_disconnect"
        self.manager.stats.rq_rx_reset.value += 1
        self._cancel_upstream()
        self._finish()

    def on_downstream_full(self) -> None:
        """The client reads slowly: take no more from upstream."""
        self._paused_upstream = True
        if self.upstream is not None:
            self.upstream.pause_reading()

    def on_downstream_free(self) -> None:
        self._paused_upstream = False
        if self.upstream is not None:
            self.upstream.resume_reading()

    # Filters and route

    def _inject_fault(self) -> None:
        route = self.route
        fault = (route.fault if route is not None else None) or self.manager.fault
        if fault is None or not fault.concerns(self.head, self.info.upstream_cluster):
            self._route()
            return
        runtime = self.manager.runtime
        seconds = fault.delay(runtime.dice())
        if not seconds:
            self._abort_or_route(fault)
            return
        stats = self.manager.stats
        stats.fault_delays_injected.value += 1
        stats.fault_active.value += 1
        fault.active += 1
        self._fault = fault
        self.info.flags |= DI
        self._delay = runtime.timers.after(seconds, self._after_delay)

    def _after_delay(self) -> None:
        fault = self._fault
        self._end_fault()
        if fault is not None and not self.done:
            self._abort_or_route(fault)

    def _end_fault(self) -> None:
        if self._fault is not None:
            self._fault.active -= 1
            self._fault = None
            self.manager.stats.fault_active.value -= 1
        if self._delay is not None:
            self._delay.cancel()
            self._delay = None

    def _abort_or_route(self, fault: CompiledFault) -> None:
        status = fault.abort(self.manager.runtime.dice())
        if not status:
            self._route()
            return
        self.manager.stats.fault_aborts_injected.value += 1
        self.info.flags |= FI
        grpc_status = fault.config.abort_grpc_status
        if grpc_status is None:
            self.reply(status, b"fault filter abort", "fault_filter_abort")
            return
        headers = Headers.of(
            (b"content-type", b"application/grpc"),
            (b"grpc-status", b"%d" % grpc_status),
            (b"grpc-message", b"fault filter abort"),
        )
        self._send_own(200, headers, b"", "fault_filter_abort")

    def _route(self) -> None:
        route = self.route
        manager = self.manager
        if route is None:
            self.info.flags |= NR
            manager.stats.no_route.value += 1
            self.reply(404, b"", "route_not_found")
            return
        if self._needs_tls(route):
            self._redirect(301, b"https://%b%b" % (self.head.authority or b"", self.head.target))
            return
        action = route.action
        if isinstance(action, RouteAction):
            self._forward(route, action)
        elif isinstance(action, Redirect):
            manager.stats.rq_direct_response.value += 1
            where = location(action, route.rewrite, self.head, self.info.scheme)
            self._redirect(action.response_code, where)
        else:
            self._answer(action)

    def _needs_tls(self, route: CompiledRoute) -> bool:
        rule = route.host.require_tls
        return (
            rule == "all" or (rule == "external_only" and self._external)
        ) and self.info.scheme != b"https"

    def _answer(self, action: DirectResponse) -> None:
        self.manager.stats.rq_direct_response.value += 1
        headers = Headers([], [])
        if action.body:
            headers.add(b"content-type", b"text/plain")
        self._send_own(action.status, headers, action.body, "direct_response")

    def _redirect(self, status: int, where: bytes) -> None:
        self._send_own(status, Headers.of((b"location", where)), b"", "direct_response")

    def _choose_cluster(self, route: CompiledRoute, action: RouteAction) -> None:
        runtime = self.manager.runtime
        name = action.cluster
        if route.weights is not None:
            self._share = route.weights.pick(runtime.dice())
            name = self._share.name
        elif not name:
            name = (self.head.headers.get(action.cluster_header) or b"").decode("latin-1")
        cluster = runtime.clusters.get(name)
        if cluster is not None:
            self.cluster = cluster
            self.info.upstream_cluster = name
            self.info.upstream_cluster_metadata = cluster.config.metadata

    def _forward(self, route: CompiledRoute, action: RouteAction) -> None:
        manager = self.manager
        head = self.head
        cluster = self.cluster
        if cluster is None:
            self.info.flags |= NC
            manager.stats.no_cluster.value += 1
            self.reply(action.cluster_not_found_code, b"", "cluster_not_found")
            return
        if head.upgrade and not self._upgrade_allowed(action):
            self.reply(403, b"", "upgrade_failed")
            return
        manager.stats.router_rq_total.value += 1
        self._length_limit = cluster.config.buffer_limit
        self._breakers = cluster.high_breakers if action.priority == "high" else cluster.breakers
        if action.idle_timeout is not None:
            self._start_idle(action.idle_timeout)
        self._prepare_retry(route)
        self._prepare_head(route, action)
        if head.upgrade:
            self._timeout = 0.0
        if self.request_done:
            self._start_timeouts()
        self._try()

    def _upgrade_allowed(self, action: RouteAction) -> bool:
        allowed = action.upgrades.get(self.head.upgrade)
        if allowed is None:
            allowed = self.manager.config.upgrades.get(self.head.upgrade, False)
        return allowed

    def _prepare_retry(self, route: CompiledRoute) -> None:
        headers = self.head.headers
        retry = route.retry
        if b"x-envoy-retry-on" in headers.names or b"x-envoy-max-retries" in headers.names:
            asked = with_request_headers(retry.policy if retry else None, headers)
            retry = Retry(asked) if asked is not None and asked.retry_on else None
        if retry is not None and not self.head.upgrade and retry.concerns(self.head):
            self._retry = retry
            self._retries_left = retry.policy.num_retries

    def _prepare_head(self, route: CompiledRoute, action: RouteAction) -> None:
        """Make the head what upstream shall see, up to what changes with each try."""
        head = self.head
        headers = head.headers
        info = self.info
        manager = self.manager
        policy = self._retry.policy if self._retry is not None else None
        self._timeout, self._per_try = timeouts(
            action.timeout, policy.per_try_timeout if policy else 0.0, headers
        )
        for name in STEERING.intersection(headers.names):
            headers.remove(name)
        expected = self._per_try or self._timeout
        if expected and not manager.suppress_envoy_headers:
            headers.set(b"x-envoy-expected-rq-timeout-ms", b"%d" % (expected * 1000))
        self._rewrite_host(action)
        if route.rewrite is not None:
            path, rest = split(head.target)
            new = route.rewrite(path) + rest
            if new != head.target:
                if not manager.suppress_envoy_headers:
                    headers.set(b"x-envoy-original-path", head.target)
                head.target = new if new.startswith(b"/") else b"/" + new
                info.path = head.target
        if self._share is not None and self._share.mutate_request is not None:
            self._share.mutate_request(headers, info)
        if route.mutate_request is not None:
            route.mutate_request(headers, info)
        if (
            manager.exchange_metadata
            and info.connection.traffic_direction != "inbound"
            and info.upstream_cluster != "PassthroughCluster"
        ):
            runtime = manager.runtime
            headers.set(ID_HEADER, runtime.metadata_id)
            headers.set(HEADER, runtime.metadata)

    def _rewrite_host(self, action: RouteAction) -> None:
        head = self.head
        new = action.host_rewrite
        if self._share is not None and self._share.host_rewrite:
            new = self._share.host_rewrite
        if action.host_rewrite_header:
            new = head.headers.get(action.host_rewrite_header) or b""
        if new:
            self._set_host(new, append=action.append_x_forwarded_host)

    def _set_host(self, new: bytes, *, append: bool) -> None:
        head = self.head
        if head.authority:
            if append:
                head.headers.add(b"x-forwarded-host", head.authority)
            if not self.manager.suppress_envoy_headers:
                head.headers.set(b"x-envoy-original-host", head.authority)
        head.authority = new
        head.headers.set(b"host", new)
        self.info.authority = new

    # Tries

    def _try(self) -> None:
        """Choose a host and wait for a connection to it."""
        cluster = self.cluster
        route = self.route
        if cluster is None or route is None or not isinstance(route.action, RouteAction):
            return
        self._attempts += 1
        info = self.info
        info.attempt_count = self._attempts
        host = self._choose(cluster)
        if host is None:
            info.flags |= UH
            self._local_failure(503, b"no healthy upstream", "no_healthy_upstream")
            return
        self._host = host
        info.upstream_host = host.address
        info.upstream_host_metadata = host.endpoint.metadata
        tls = cluster.tls_for(host)
        alpn: tuple[str, ...] = ()
        server_name = ""
        if tls is not None:
            alpn = self.manager.alpn or tls.context.alpn_protocols
            server_name = tls.sni
            if tls.auto_sni_from_request:
                server_name = without_port(self.head.authority or b"").decode("latin-1")
            elif tls.auto_host_sni and host.endpoint.hostname:
                server_name = host.endpoint.hostname
        self._pool = cluster.pool(host, alpn, server_name, high=route.action.priority == "high")
        if self._per_try and self.request_done:
            self._start_per_try()
        self._pool.acquire(self)

    def _choose(self, cluster: "ClusterState") -> Host | None:
        original = self.info.connection.local_address
        header = cluster.config.original_dst_http_header
        override = (self.head.headers.get(header) or b"").decode("latin-1") if header else ""
        host = cluster.choose(original, override)
        tried = self._tried
        if tried is None or host is None or self._retry is None:
            return host
        if self._retry.policy.previous_hosts:
            for _ in range(self._retry.policy.host_selection_attempts):
                if host not in tried:
                    return host
                host = cluster.choose(original, override)
                if host is None:
                    return None
        return host

    def on_connection(self, connection: UpstreamHttp1) -> None:
        """Send the request on a connection that is ready."""
        self._pool = None
        self.upstream = connection
        info = self.info
        info.upstream_local_address = connection.local_address
        info.upstream_certificate = connection.certificate
        info.upstream_own_certificate = connection.own_certificate
        info.upstream_tls_version = connection.tls_version
        info.upstream_transport_failure_reason = ""
        info.first_upstream_byte_sent = self.manager.runtime.now()
        wire = self._request_wire()
        info.upstream_bytes_sent += len(wire)
        if self._replay_size > self._length_limit:
            self._abandon_replay()
        if self._retry is None:
            self._replay = []
            self._replay_size = 0
        if not self.request_done:
            self.connection.resume_reading()
        if self._paused_upstream:
            connection.pause_reading()
        connection.send_head(self, self.head.method, wire, end=self.request_done)

    def _request_wire(self) -> bytes:
        """Return the request's head and what is here of its body, as one write."""
        head = self.head
        headers = head.headers
        route = self.route
        if route is not None:
            if route.host.include_request_attempt_count:
                headers.set(b"x-envoy-attempt-count", b"%d" % self._attempts)
            action = route.action
            if isinstance(action, RouteAction) and action.auto_host_rewrite and self._host:
                hostname = self._host.endpoint.hostname
                if hostname:
                    self._set_host(hostname.encode(), append=action.append_x_forwarded_host)
        framing = b""
        if head.body == CHUNKED:
            framing = b"transfer-encoding: chunked\r\n"
        elif head.upgrade:
            framing = b"connection: upgrade\r\nupgrade: %b\r\n" % head.upgrade
        elif head.body == 0 and head.method not in BODILESS:
            headers.set(b"content-length", b"0")
        wire = b"%b %b HTTP/1.1\r\n%b%b\r\n" % (head.method, head.target, headers.wire(), framing)
        return wire + b"".join(self._replay) if self._replay else wire

    def on_no_connection(self, reset: Reset, reason: str) -> None:
        """The pool has no connection for this try."""
        self._pool = None
        self._on_failed_try(reset, reason, sent=False)

    def on_reset(self, reset: Reset, reason: str) -> None:
        """The try's connection is gone."""
        self.upstream = None
        cluster = self.cluster
        if cluster is not None:
            cluster.stats.rq_rx_reset.value += 1
            if self._host is not None:
                self._host.stats.rq_error += 1
                cluster.on_local_origin_failure(self._host)
        if self.response_started:
            word = reset.value.replace(" ", "_")
            self._break_off(RESET_FLAGS[reset], f"upstream_reset_after_response_started{{{word}}}")
            return
        self._on_failed_try(reset, reason, sent=True)

    def _on_failed_try(self, reset: Reset, reason: str, *, sent: bool) -> None:
        self._stop_per_try()
        self.info.upstream_transport_failure_reason = reason
        if self._retry is not None and self._retry.after_reset(reset, request_sent=sent):
            if self._retry_if_allowed():
                return
        elif self._retry is not None and self._retry_taken:
            self._release_retry()
        self.info.flags |= RESET_FLAGS[reset]
        word = reset.value
        detail = word.replace(" ", "_")
        if reset is Reset.PER_TRY_TIMEOUT:
            self._local_failure(504, b"upstream request timeout", "upstream_per_try_timeout")
            return
        latest = b"retried and the latest " if self._attempts > 1 else b""
        body = b"upstream connect error or disconnect/reset before headers. %breset reason: %b" % (
            latest,
            word.encode(),
        )
        if reason:
            detail += "|" + reason.replace(" ", "_")
            if not reason.startswith("delayed connect error"):  # of that, clients learn nothing
                body += b", transport failure reason: " + reason.encode("latin-1", "replace")
        self._local_failure(
            502 if reset is Reset.PROTOCOL_ERROR else 503,
            body,
            f"upstream_reset_before_response_started{{{detail}}}",
            overloaded=reset is Reset.OVERFLOW,
        )

    def _retry_if_allowed(self) -> bool:
        """Plan another try; False: the limits do not allow one (flags and counters say which)."""
        cluster = self.cluster
        breakers = self._breakers
        retry = self._retry
        if cluster is None or breakers is None or retry is None:
            return False
        stats = cluster.stats
        if self._retry_taken:
            self._release_retry()
        if self._retries_left <= 0:
            self.info.flags |= URX
            stats.rq_retry_limit_exceeded.value += 1
            return False
        if not breakers.may_retry():
            self.info.flags |= UO
            stats.rq_retry_overflow.value += 1
            return False
        self._retries_left -= 1
        breakers.retries.take()
        self._retry_taken = True
        stats.rq_retry.value += 1
        if self._host is not None:
            if self._tried is None:
                self._tried = []
            self._tried.append(self._host)
        runtime = self.manager.runtime
        seconds = retry.policy.backoff(self._attempts, runtime.dice())
        # Rounded, so that back-offs share the queues of a few durations.
        self._retry_timer = runtime.timers.after(round(seconds, 3), self._on_retry_due)
        return True

    def _release_retry(self) -> None:
        if self._retry_taken and self._breakers is not None:
            self._retry_taken = False
            self._breakers.retries.give()

    def _on_retry_due(self) -> None:
        self._retry_timer = None
        if not self.done:
            self._try()

    # From upstream

    def on_informational(self, head: ResponseHead) -> None:
        if self.manager.config.proxy_100_continue and not self.response_started:
            remove_hop_by_hop(head.headers)
            if self.manager.config.always_set_request_id_in_response and self.info.request_id:
                head.headers.set(b"x-request-id", self.info.request_id)
            self.connection.send_informational(head)

    def on_response(self, head: ResponseHead, data: bytes, end: bool) -> None:
        """Take the response's head, and perhaps all of it."""
        cluster = self.cluster
        host = self._host
        upstream = self.upstream
        info = self.info
        if cluster is None or host is None or upstream is None:
            return
        now = self.manager.runtime.now()
        status = head.status
        info.first_upstream_byte_received = now
        self._last_activity = now
        if end:
            self.upstream = None
        self._stop_per_try()
        if status < 500:
            host.stats.rq_success += 1
        else:
            host.stats.rq_error += 1
        if cluster.outlier is not None:
            cluster.on_response(host, status)
        retry = self._retry
        if retry is not None:
            if retry.after_response(status, head.headers):
                if self._retry_if_allowed():
                    cluster.stats.count_retried(status)
                    if not end:
                        self._cancel_upstream()
                    return
            elif self._retry_taken:
                cluster.stats.rq_retry_success.value += 1
            self._retry = None
        cluster.stats.count_response(status)
        if self._retry_taken:
            self._release_retry()
        if self._replay:
            self._replay = []
        info.response_code_details = "via_upstream"
        if status == 101 and self.head.upgrade:
            self._begin_tunnel(head)
        self._pass_head(head, data, end, now)

    def _begin_tunnel(self, head: ResponseHead) -> None:
        self.tunnel = True
        head.body = TUNNEL
        stats = self.manager.stats
        stats.cx_upgrades_total.value += 1
        stats.cx_upgrades_active.value += 1

    def _pass_head(self, head: ResponseHead, data: bytes, end: bool, now: float) -> None:
        manager = self.manager
        info = self.info
        headers = head.headers
        remove_hop_by_hop(headers)
        if manager.exchange_metadata:
            self._exchange_in_response(headers)
        if not manager.suppress_envoy_headers and not self.tunnel:
            taken = int((now - info.first_upstream_byte_sent) * 1000)
            headers.set(b"x-envoy-upstream-service-time", b"%d" % taken)
        route = self.route
        if route is not None:
            if route.host.include_attempt_count_in_response:
                headers.set(b"x-envoy-attempt-count", b"%d" % self._attempts)
            info.response_code = head.status
            info.response_headers = headers
            if self._share is not None and self._share.mutate_response is not None:
                self._share.mutate_response(headers, info)
            if route.mutate_response is not None:
                route.mutate_response(headers, info)
        if self.tunnel:
            headers.set(b"connection", b"upgrade")
            headers.set(b"upgrade", self.head.upgrade)
        self._send(head.status, head.reason, headers, head.body, data, end)

    def _exchange_in_response(self, headers: Headers) -> None:
        info = self.info
        if info.connection.traffic_direction == "inbound":
            if info.downstream_peer is not None:  # only who told us is told
                headers.set(ID_HEADER, self.manager.runtime.metadata_id)
                headers.set(HEADER, self.manager.runtime.metadata)
            return
        value = headers.get(HEADER)
        if value is not None:
            info.upstream_peer = decode(value, headers.get(ID_HEADER) or b"")
            headers.remove(HEADER)
            headers.remove(ID_HEADER)

    def on_response_data(self, data: bytes, end: bool, trailers: Headers | None) -> None:
        """Take more of the response's body."""
        info = self.info
        self._last_activity = self.manager.runtime.now()
        if end:
            self.upstream = None
            info.last_upstream_byte_received = self._last_activity
            info.response_trailers = trailers
        info.bytes_sent += len(data)
        info.upstream_bytes_received += len(data)
        keep = self.manager.config.enable_trailers
        self.connection.send_data(data, end, trailers if keep else None)
        if end:
            self._finish()

    def on_upstream_full(self) -> None:
        self.connection.pause_reading()

    def on_upstream_free(self) -> None:
        self.connection.resume_reading()

    # Answers

    def _send(
        self, status: int, reason: bytes, headers: Headers, length: int, data: bytes, end: bool
    ) -> None:
        manager = self.manager
        config = manager.config
        info = self.info
        names = headers.names
        if config.server_header == "overwrite" or (
            config.server_header == "append_if_absent" and b"server" not in names
        ):
            headers.set(b"server", config.server_name)
        if b"date" not in names:
            headers.add(b"date", manager.runtime.date(info.start_time))
        if config.always_set_request_id_in_response and info.request_id:
            headers.set(b"x-request-id", info.request_id)
        if config.via:
            headers.add(b"via", config.via)
        info.response_code = status
        info.response_headers = headers
        info.bytes_sent += len(data)
        info.upstream_bytes_received += len(data)
        info.first_downstream_byte_sent = info.first_upstream_byte_received or manager.runtime.now()
        if end:
            info.last_upstream_byte_received = info.first_upstream_byte_received
        self.response_started = True
        self.connection.send_response(status, reason, headers, length, data, end)
        if end:
            self._finish()

    def reply(self, status: int, body: bytes, details: str, *, overloaded: bool = False) -> None:
        """Answer without upstream."""
        headers = Headers([], [])
        if overloaded and not self.manager.suppress_envoy_headers:
            headers.add(b"x-envoy-overloaded", b"true")
        if is_grpc(self.head):
            headers.add(b"content-type", b"application/grpc")
            headers.add(b"grpc-status", b"%d" % GRPC_STATUS.get(status, 2))
            if body:
                headers.add(b"grpc-message", body.replace(b"%", b"%25"))
            self._send_own(200, headers, b"", details)
            return
        if body:
            headers.add(b"content-type", b"text/plain")
        self._send_own(status, headers, body, details)

    def _local_failure(
        self, status: int, body: bytes, details: str, *, overloaded: bool = False
    ) -> None:
        """Answer for an upstream that did not."""
        if self.cluster is not None:
            self.cluster.stats.count_response(status)
        self.reply(status, body, details, overloaded=overloaded)

    def _send_own(self, status: int, headers: Headers, body: bytes, details: str) -> None:
        self._cancel_upstream()
        self._retry = None
        self._release_retry()
        info = self.info
        info.response_code_details = details
        if b"content-length" not in headers.names and status >= 200 and status != 204:
            headers.add(b"content-length", b"%d" % len(body))
        route = self.route
        if route is not None and route.mutate_response is not None:
            info.response_code = status
            info.response_headers = headers
            route.mutate_response(headers, info)
        if self.head.method == b"HEAD" or status in (204, 304):
            body = b""
        self._send(status, b"", headers, len(body), body, True)

    def _break_off(self, flag: int, details: str) -> None:
        """The response cannot be completed: the client sees its connection end."""
        self.info.flags |= flag
        self.info.response_code_details = details
        self.manager.stats.rq_tx_reset.value += 1
        self.connection.abort()  # first: a finished connection would go on with the next request
        self._finish()

    def _cancel_upstream(self) -> None:
        if self._pool is not None:
            self._pool.cancel(self)
            self._pool = None
        upstream = self.upstream
        if upstream is not None:
            self.upstream = None
            upstream.cancel()

    # Timers

    def _start_timeouts(self) -> None:
        """The request is complete: now the clock runs for the answer."""
        if self._timeout and self._timer is None and not self.tunnel:
            self._timer = self.manager.runtime.timers.after(self._timeout, self._on_timeout)
        if (
            self._per_try
            and self._per_try_timer is None
            and (self.upstream is not None or self._pool is not None)
        ):
            self._start_per_try()

    def _start_per_try(self) -> None:
        self._stop_per_try()
        self._per_try_timer = self.manager.runtime.timers.after(
            self._per_try, self._on_per_try_timeout
        )

    def _stop_per_try(self) -> None:
        if self._per_try_timer is not None:
            self._per_try_timer.cancel()
            self._per_try_timer = None

    def _on_timeout(self) -> None:
        self._timer = None
        cluster = self.cluster
        if cluster is not None:
            cluster.stats.rq_timeout.value += 1
            if self._host is not None and (self.upstream is not None or self._pool is not None):
                self._host.stats.rq_timeout += 1
                cluster.on_local_origin_failure(self._host, timeout=True)
        self.info.flags |= UT
        if self.response_started:
            self._cancel_upstream()
            self._break_off(UT, "response_timeout")
            return
        self._cancel_upstream()
        self._local_failure(504, b"upstream request timeout", "response_timeout")

    def _on_per_try_timeout(self) -> None:
        self._per_try_timer = None
        cluster = self.cluster
        if cluster is None or self.response_started:
            return
        cluster.stats.rq_per_try_timeout.value += 1
        if self._host is not None:
            self._host.stats.rq_timeout += 1
            cluster.on_local_origin_failure(self._host, timeout=True)
        self._cancel_upstream()
        self._on_failed_try(Reset.PER_TRY_TIMEOUT, "", sent=True)

    def _start_idle(self, seconds: float) -> None:
        if self._idle_timer is not None:
            self._idle_timer.cancel()
            self._idle_timer = None
        self._idle_seconds = seconds
        if seconds:
            self._last_activity = self.manager.runtime.now()
            self._idle_timer = self.manager.runtime.timers.after(seconds, self._on_idle)

    def _on_idle(self) -> None:
        self._idle_timer = None
        runtime = self.manager.runtime
        left = self._last_activity + self._idle_seconds - runtime.now()
        if left > 0.001:
            self._idle_timer = runtime.timers.after(round(left, 2) or 0.01, self._on_idle)
            return
        self.manager.stats.rq_idle_timeout.value += 1
        self._give_up(
            408 if not self.request_done else 504, b"stream timeout", SI, "stream_idle_timeout"
        )

    def _on_request_timeout(self) -> None:
        self._request_timer = None
        self.manager.stats.rq_timeout.value += 1
        self._give_up(408, b"request timeout", DT, "request_overall_timeout")

    def _on_max_duration(self) -> None:
        self._max_timer = None
        self.manager.stats.rq_max_duration_reached.value += 1
        self._give_up(408, b"downstream duration timeout", UMSDR, "max_duration_timeout")

    def _give_up(self, status: int, body: bytes, flag: int, details: str) -> None:
        if self.done:
            return
        self.info.flags |= flag
        self._cancel_upstream()
        if self.response_started:
            self._break_off(flag, details)
        else:
            self.reply(status, body, details)

    def _stop_timers(self) -> None:
        """Cancel and forget: a timer holds the stream, and the two would wait for the collector."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._idle_timer is not None:
            self._idle_timer.cancel()
            self._idle_timer = None
        if self._per_try_timer is not None:
            self._per_try_timer.cancel()
            self._per_try_timer = None
        if self._retry_timer is not None:
            self._retry_timer.cancel()
            self._retry_timer = None
        if self._max_timer is not None:
            self._max_timer.cancel()
            self._max_timer = None
        if self._request_timer is not None:
            self._request_timer.cancel()
            self._request_timer = None

    def _finish(self) -> None:
        if self.done:
            return
        self.done = True
        self._stop_timers()
        if self._fault is not None:
            self._end_fault()
        if self._retry_taken:
            self._release_retry()
        manager = self.manager
        info = self.info
        now = manager.runtime.now()
        info.end = now
        stats = manager.stats
        stats.rq_active.value -= 1
        if info.response_code:
            stats.count_response(info.response_code)
        milliseconds = (now - info.start) * 1000
        stats.rq_time.record(milliseconds)
        if self.cluster is not None and info.first_upstream_byte_received:
            self.cluster.stats.rq_time.record((now - info.first_upstream_byte_sent) * 1000)
        if self.tunnel:
            stats.cx_upgrades_active.value -= 1
        manager.log(info)
        self.connection.finished(self)
