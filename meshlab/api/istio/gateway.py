"""Gateway: which ports and hosts a gateway workload serves (networking.istio.io).

Every field that Istio has is here; `meshlab.control.validate` says which are not done yet.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from meshlab.api.field import UInt32

TLSVersion = Literal["TLS_AUTO", "TLSV1_0", "TLSV1_1", "TLSV1_2", "TLSV1_3"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerPort:
    """The port that a gateway listens on."""

    number: UInt32
    """As clients of the gateway's Service dial it."""
    protocol: str
    """HTTP, HTTPS, GRPC, GRPC-WEB, HTTP2, MONGO, TCP or TLS."""
    name: str
    target_port: UInt32 = 0
    """Deprecated and ignored."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TLSCertificate:
    """A certificate from files."""

    server_certificate: str = ""
    private_key: str = ""
    ca_certificates: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerTLSSettings:
    """TLS towards the gateway's clients."""

    https_redirect: bool = False
    mode: Literal[
        "PASSTHROUGH", "SIMPLE", "MUTUAL", "AUTO_PASSTHROUGH", "ISTIO_MUTUAL", "OPTIONAL_MUTUAL"
    ] = "PASSTHROUGH"
    server_certificate: str = ""
    private_key: str = ""
    ca_certificates: str = ""
    ca_crl: str = ""
    credential_name: str = ""
    credential_names: tuple[str, ...] = ()
    ca_cert_credential_name: str = ""
    tls_certificates: tuple[TLSCertificate, ...] = ()
    subject_alt_names: tuple[str, ...] = ()
    verify_certificate_spki: tuple[str, ...] = ()
    verify_certificate_hash: tuple[str, ...] = ()
    min_protocol_version: TLSVersion = "TLS_AUTO"
    max_protocol_version: TLSVersion = "TLS_AUTO"
    cipher_suites: tuple[str, ...] = ()
    ecdh_curves: tuple[str, ...] = ()
    insecure_skip_verify: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """One port with the hosts served on it."""

    port: ServerPort
    hosts: tuple[str, ...]
    """`[namespace/]dns`; `*` and `*.` are wildcards; the namespace is the VirtualService's."""
    bind: str = ""
    """Address to listen on; missing: all."""
    tls: ServerTLSSettings | None = None
    default_endpoint: str = ""
    name: str = ""
    """Unique among all servers of the workload."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gateway:
    """Which ports and hosts a gateway workload serves."""

    servers: tuple[Server, ...] = ()
    selector: Mapping[str, str] = field(default_factory=dict)
    """Labels of the gateway's pods, in any namespace; empty: every gateway."""
