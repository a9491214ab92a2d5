"""What the agent is told: pilot-agent's environment, flags and mounted files (istio.md 2.3)."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from meshlab.errors import ConfigError

ISTIO_VERSION = "1.28.0"
"""Whose conventions we speak; control planes gate features by it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """Listening ports on the pod, Istio's numbers (istio.md 2.2)."""

    admin: int = 15000
    status: int = 15020
    """Health, merged metrics, the app's probes."""
    ready: int = 15021
    """Readiness only: what the kubelet's own probes ask."""
    prometheus: int = 15090


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """One sidecar's or gateway's settings."""

    type: str
    """`sidecar` or `router`."""
    pod: str
    namespace: str
    ip: str
    service_account: str = "default"
    domain: str = ""
    """DNS domain of the namespace, last part of the node id."""
    trust_domain: str = "cluster.local"
    cluster_id: str = "Kubernetes"
    metadata: Mapping[str, Any] = field(default_factory=dict)
    """Node metadata beyond what the other fields give: ISTIO_META_…, labels, annotations."""
    discovery_address: str = "istiod.istio-system.svc:15012"
    ca_address: str = "istiod.istio-system.svc:15012"
    plaintext: bool = False
    """Talk to the control plane without TLS: outside clusters only."""
    data_plane: str = "meshlab-proxy"
    """Executable: `meshlab-proxy` or `envoy`, or a path whose name is one of them."""
    log_level: str = "warning"
    ports: Ports = field(default_factory=Ports)
    directory: Path = Path("/etc/istio/proxy")
    """Bootstrap and sockets; in memory."""
    workload_socket: Path = Path("/var/run/secrets/workload-spiffe-uds/socket")
    token: Path = Path("/var/run/secrets/tokens/istio-token")
    root_cert: Path = Path("/var/run/secrets/istio/root-cert.pem")
    certificate_lifetime: float = 24 * 3600.0
    """SECRET_TTL in seconds."""
    termination_drain: float = 5.0
    """`terminationDrainDuration` in seconds: the longest wait for open connections at the end."""
    app_probes: Mapping[str, Any] = field(default_factory=dict)
    """ISTIO_KUBE_APP_PROBERS: path → the app's own probe."""
    scrape: Mapping[str, str] | None = None
    """ISTIO_PROMETHEUS_ANNOTATIONS: `port` and `path` of the app's metrics; None: it has none."""

    @property
    def node_id(self) -> str:
        return f"{self.type}~{self.ip}~{self.pod}.{self.namespace}~{self.domain}"

    @property
    def xds_socket(self) -> Path:
        return self.directory / "XDS"


def settings(
    kind: str, flags: Mapping[str, str], environ: Mapping[str, str], pod_info: Path
) -> Settings:
    """Return the settings for `proxy <kind>`; a flag beats PROXY_CONFIG, which beats the default.

    `flags` has the names without dashes; `pod_info` is the downward API's directory.

    Raises:
        ConfigError: a value cannot be read, or POD_NAME, POD_NAMESPACE or INSTANCE_IP is missing.
    """
    missing = [n for n in ("POD_NAME", "POD_NAMESPACE", "INSTANCE_IP") if not environ.get(n)]
    if missing:
        raise ConfigError(f"the environment lacks {', '.join(missing)}", fix="Set it on the pod.")
    config = _json(environ, "PROXY_CONFIG")
    namespace = environ["POD_NAMESPACE"]
    discovery = config.get("discoveryAddress", "istiod.istio-system.svc:15012")
    defaults = Settings(type=kind, pod="", namespace="", ip="")
    paths = {
        name: Path(flags[flag])
        for name, flag in (
            ("directory", "configPath"),
            ("workload_socket", "workloadSocket"),
            ("token", "tokenPath"),
            ("root_cert", "rootCert"),
        )
        if flag in flags
    }
    return Settings(
        type=kind,
        pod=environ["POD_NAME"],
        namespace=namespace,
        ip=environ["INSTANCE_IP"],
        service_account=environ.get("SERVICE_ACCOUNT") or "default",
        domain=flags.get("domain") or f"{namespace}.svc.cluster.local",
        trust_domain=environ.get("TRUST_DOMAIN") or defaults.trust_domain,
        cluster_id=environ.get("ISTIO_META_CLUSTER_ID") or defaults.cluster_id,
        metadata=_metadata(environ, pod_info, config),
        discovery_address=flags.get("discoveryAddress", discovery),
        ca_address=flags.get("caAddress") or environ.get("CA_ADDR") or discovery,
        plaintext="xdsPlaintext" in flags,
        data_plane=environ.get("MESHLAB_DATAPLANE") or defaults.data_plane,
        log_level=flags.get("proxyLogLevel", defaults.log_level),
        ports=_ports(flags, config),
        certificate_lifetime=duration(environ.get("SECRET_TTL", "24h")),
        termination_drain=duration(config.get("terminationDrainDuration", "5s")),
        app_probes=_json(environ, "ISTIO_KUBE_APP_PROBERS"),
        scrape=_json(environ, "ISTIO_PROMETHEUS_ANNOTATIONS") or None,
        **paths,
    )


def _ports(flags: Mapping[str, str], config: Mapping[str, Any]) -> Ports:
    defaults = Ports()
    return Ports(
        admin=int(flags.get("adminPort") or config.get("proxyAdminPort") or defaults.admin),
        status=int(flags.get("statusPort") or config.get("statusPort") or defaults.status),
        ready=int(flags.get("readyPort") or defaults.ready),
        prometheus=int(flags.get("prometheusPort") or defaults.prometheus),
    )


def _metadata(
    environ: Mapping[str, str], pod_info: Path, config: Mapping[str, Any]
) -> dict[str, Any]:
    """Return node metadata from ISTIO_META_X, ISTIO_METAJSON_X and the pod's labels."""
    plain = {
        name.removeprefix("ISTIO_META_"): value
        for name, value in environ.items()
        if name.startswith("ISTIO_META_")
    }
    metadata: dict[str, Any] = plain
    for name in environ:
        if name.startswith("ISTIO_METAJSON_"):
            metadata[name.removeprefix("ISTIO_METAJSON_")] = _json(environ, name)
    for key, file in (("LABELS", "labels"), ("ANNOTATIONS", "annotations")):
        if (path := pod_info / file).exists():
            metadata[key] = {**downward(path.read_text()), **metadata.get(key, {})}
    return {
        **metadata,
        "NAME": environ["POD_NAME"],
        "NAMESPACE": environ["POD_NAMESPACE"],
        "SERVICE_ACCOUNT": environ.get("SERVICE_ACCOUNT") or "default",
        "INSTANCE_IPS": environ["INSTANCE_IP"],
        "ISTIO_VERSION": ISTIO_VERSION,
        "PROXY_CONFIG": dict(config),
    }


def downward(text: str) -> dict[str, str]:
    r"""Read the downward API's `labels` or `annotations` file: lines of key="value", Go-quoted."""
    pairs = {}
    for line in text.splitlines():
        key, separator, value = line.partition("=")
        if separator:
            pairs[key] = _unquote(value)
    return pairs


def _unquote(value: str) -> str:
    # Go's strconv.Quote writes \a \v \x that JSON does not know; Kubernetes' label values never
    # hold them, and an annotation that does is kept as it is written.
    try:
        text: str = json.loads(value)
    except ValueError:
        return value.strip('"')
    return text


_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|h|m|s)")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


def duration(text: str) -> float:
    """Return the seconds of a Go duration (`24h0m0s`, `5s`, `250ms`).

    Raises:
        ConfigError: not a duration.
    """
    if not text or _DURATION.sub("", text):
        raise ConfigError("not a duration", found=repr(text), allowed="such as 24h or 5s")
    return sum(float(amount) * _UNITS[unit] for amount, unit in _DURATION.findall(text))


def _json(environ: Mapping[str, str], name: str) -> dict[str, Any]:
    text = environ.get(name, "").strip()
    if not text:
        return {}
    try:
        value = json.loads(text)
    except ValueError as error:
        raise ConfigError(f"is not JSON: {error}", field=name) from error
    if not isinstance(value, dict):
        raise ConfigError("is not a JSON object", field=name)
    return value
