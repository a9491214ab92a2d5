"""What a proxy adds to and takes from a request's headers: x-forwarded-*, XFCC, hop by hop, id."""

from ipaddress import ip_address, ip_network

from meshlab.proxy.core.head import Headers
from meshlab.proxy.core.http1 import RequestHead, connection_options
from meshlab.proxy.core.http_connection_manager import HttpConnectionManager
from meshlab.proxy.core.stream_info import ConnectionInfo, PeerCertificate

HOP_BY_HOP = frozenset(
    {b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade", b"te"}
)
# A client may not have these taken away by naming them in Connection.
_KEPT = (b"x-forwarded-", b"x-envoy-", b"x-request-id", b"host", b"content-", b"authorization")
# What only the mesh's own may ask for; taken from requests that come from outside.
INTERNAL = (
    b"x-envoy-downstream-service-cluster",
    b"x-envoy-downstream-service-node",
    b"x-envoy-retry-on",
    b"x-envoy-retry-grpc-on",
    b"x-envoy-max-retries",
    b"x-envoy-upstream-alt-stat-name",
    b"x-envoy-upstream-rq-timeout-ms",
    b"x-envoy-upstream-rq-per-try-timeout-ms",
    b"x-envoy-upstream-rq-timeout-alt-response",
    b"x-envoy-expected-rq-timeout-ms",
    b"x-envoy-force-trace",
    b"x-envoy-ip-tags",
    b"x-envoy-original-url",
    b"x-envoy-hedge-on-per-try-timeout",
    b"x-envoy-retriable-status-codes",
    b"x-envoy-retriable-header-names",
    b"x-envoy-decorator-operation",
)


def remove_hop_by_hop(headers: Headers) -> None:
    """Take off what concerns this connection only (RFC 9110 §7.6.1); `te: trailers` stays."""
    names = headers.names
    hops = HOP_BY_HOP.intersection(names)
    if not hops:
        return
    if b"connection" in hops:
        for option in connection_options(headers):
            if option not in HOP_BY_HOP and not option.startswith(_KEPT):
                headers.remove(option)
    for name in hops:
        if name == b"te" and wants_trailers(headers.joined(b"te") or b""):
            headers.set(b"te", b"trailers")
        else:
            headers.remove(name)


def wants_trailers(te: bytes) -> bool:
    return any(part.partition(b";")[0].strip() == b"trailers" for part in te.lower().split(b","))


def is_internal(address: str, ranges: tuple[str, ...] | None) -> bool:
    """Tell whether an address is the mesh's own (`internal_address_config`)."""
    if not ranges:
        return False
    try:
        ip = ip_address(address)
    except ValueError:
        return False
    return any(ip in ip_network(text, strict=False) for text in ranges)


def trusted_address(forwarded: bytes, hops: int) -> str:
    """Return the client's address in x-forwarded-for that is `hops` from the end; "" for none."""
    addresses = [part.strip().decode("latin-1") for part in forwarded.split(b",")]
    if len(addresses) <= hops:
        return ""
    try:
        return str(ip_address(addresses[-1 - hops]))
    except ValueError:
        return ""


def forward(
    head: RequestHead, manager: HttpConnectionManager, connection: ConnectionInfo, peer_ip: str
) -> tuple[str, bool]:
    """Write x-forwarded-for, x-forwarded-proto, x-envoy-internal and XFCC.

    Returns:
        The client's address ("" when it is the peer) and whether the request comes from outside:
        then it may not steer the proxy, and its request id is not trusted.
    """
    headers = head.headers
    names = headers.names
    forwarded = headers.joined(b"x-forwarded-for") if b"x-forwarded-for" in names else None
    single = forwarded is not None and b"," not in forwarded
    tls = bool(connection.tls_version)
    remote = ""
    external = False
    if manager.use_remote_address:
        hops = manager.xff_num_trusted_hops
        remote = trusted_address(forwarded, hops - 1) if forwarded and hops else peer_ip
        internal = forwarded is None and is_internal(peer_ip, manager.internal_addresses)
        external = not internal
        if not manager.skip_xff_append:
            value = peer_ip.encode()
            headers.set(b"x-forwarded-for", forwarded + b"," + value if forwarded else value)
        if not hops or b"x-forwarded-proto" not in names:
            headers.set(b"x-forwarded-proto", b"https" if tls else b"http")
    else:
        if forwarded is not None:
            remote = trusted_address(forwarded, manager.xff_num_trusted_hops)
        internal = single and is_internal(remote, manager.internal_addresses)
        if b"x-forwarded-proto" not in names:
            headers.add(b"x-forwarded-proto", b"https" if tls else b"http")
    if external:
        for name in INTERNAL:
            if name in names:
                headers.remove(name)
        if remote:
            headers.set(b"x-envoy-external-address", remote.encode())
    if internal:
        headers.set(b"x-envoy-internal", b"true")
    elif b"x-envoy-internal" in names:
        headers.remove(b"x-envoy-internal")
    if connection.tls_version or b"x-forwarded-client-cert" in names:
        forward_client_certificate(headers, manager, connection)
    if manager.via:
        headers.add(b"via", manager.via)
    return remote, external


def forward_client_certificate(
    headers: Headers, manager: HttpConnectionManager, connection: ConnectionInfo
) -> None:
    """Write x-forwarded-client-cert as `forward_client_cert_details` says."""
    mode = manager.forward_client_cert
    if mode == "always_forward_only":
        return
    certificate = connection.peer_certificate
    if certificate is None or mode == "sanitize":
        headers.remove(b"x-forwarded-client-cert")
        return
    if mode == "forward_only":
        return
    element = client_certificate_element(certificate, connection.local_certificate, manager)
    earlier = headers.joined(b"x-forwarded-client-cert") if mode == "append_forward" else None
    headers.set(b"x-forwarded-client-cert", earlier + b"," + element if earlier else element)


def client_certificate_element(
    certificate: PeerCertificate, own: PeerCertificate | None, manager: HttpConnectionManager
) -> bytes:
    """Return one element: By, Hash, then the details asked for, in Envoy's order."""
    details = manager.client_cert_details
    parts: list[str] = []
    if own is not None:
        parts += [f"By={uri}" for uri in own.uri_sans]
    parts.append(f"Hash={certificate.sha256}")
    if details.cert:
        parts.append(f'Cert="{certificate.pem}"')
    if details.chain:
        parts.append(f'Chain="{certificate.pem}"')
    if details.subject:
        subject = certificate.subject.replace("\\", "\\\\").replace('"', '\\"')
        parts.append(f'Subject="{subject}"')
    if details.uri:
        parts += [f"URI={uri}" for uri in certificate.uri_sans] or ["URI="]
    if details.dns:
        parts += [f"DNS={name}" for name in certificate.dns_sans]
    return ";".join(parts).encode("latin-1", "replace")


def request_id(random: bytes) -> bytes:
    """Return a version 4 UUID from 16 random bytes (RFC 9562 §5.4)."""
    text = random.hex()
    variant = "89ab"[random[8] & 3]
    return f"{text[:8]}-{text[8:12]}-4{text[13:16]}-{variant}{text[17:20]}-{text[20:]}".encode()
