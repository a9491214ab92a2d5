"""MeshConfig from ConfigMap `istio` (key `mesh`, YAML) to the mesh-wide settings."""

from typing import Any

import yaml

from meshlab.api.field import parse_duration
from meshlab.control.registry.api import Json
from meshlab.control.snapshot import Mesh
from meshlab.errors import ConfigError

CONFIG_MAP = "istio"
KEY = "mesh"


def mesh(config_map: Json | None, defaults: Mesh) -> Mesh:
    """Read the ConfigMap; absent fields keep `defaults`.

    Raises:
        ConfigError: the text is not YAML, or a field has a value it cannot have.
    """
    text = ((config_map or {}).get("data") or {}).get(KEY) or ""
    try:
        config = yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        raise ConfigError(f"is not YAML: {error}", object="ConfigMap istio", field=KEY) from error
    return Mesh(
        trust_domain=config.get("trustDomain") or defaults.trust_domain,
        cluster_domain=defaults.cluster_domain,
        root_namespace=config.get("rootNamespace") or defaults.root_namespace,
        cluster_id=defaults.cluster_id,
        enable_auto_mtls=config.get("enableAutoMtls", defaults.enable_auto_mtls),
        outbound_traffic_policy=_policy(config, defaults),
        connect_timeout=_connect_timeout(config, defaults),
        access_log_file=config.get("accessLogFile", defaults.access_log_file) or "",
        access_log_service=defaults.access_log_service,
    )


def _policy(config: dict[str, Any], defaults: Mesh) -> Any:
    mode = (config.get("outboundTrafficPolicy") or {}).get("mode")
    if mode not in (None, "ALLOW_ANY", "REGISTRY_ONLY"):
        raise ConfigError(
            "is not supported",
            object="ConfigMap istio",
            field="mesh.outboundTrafficPolicy.mode",
            found=str(mode),
            allowed="ALLOW_ANY, REGISTRY_ONLY",
        )
    return mode or defaults.outbound_traffic_policy


def _connect_timeout(config: dict[str, Any], defaults: Mesh) -> float:
    text = config.get("connectTimeout")
    if not text:
        return defaults.connect_timeout
    try:
        return parse_duration(str(text))
    except ValueError as error:
        raise ConfigError(
            str(error), object="ConfigMap istio", field="mesh.connectTimeout"
        ) from error
