"""The bootstrap: JSON and YAML, flags, sources, errors with their path."""

import json
from importlib.metadata import version

import pytest

from meshlab.errors import ConfigError
from meshlab.proxy.config.bootstrap import Bootstrap, GrpcSource, read_bootstrap
from meshlab.proxy.config.snapshot import Configuration

XDS = """
name: xds-grpc
type: {type}
typed_extension_protocol_options:
  envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
    "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
    explicit_http_config: {{http2_protocol_options: {{}}}}
load_assignment:
  cluster_name: xds-grpc
  endpoints: [{{lb_endpoints: [{{endpoint: {{address: {address}}}}}]}}]
"""
ADS = """
dynamic_resources:
  ads_config:
    api_type: {api_type}
    grpc_services:
    - envoy_grpc:
        cluster_name: {cluster}
        retry_policy: {{retry_back_off: {{base_interval: 0.1s, max_interval: 2s}}}}
      initial_metadata: [{{key: Authorization, value: Bearer x}}]
  cds_config: {{ads: {{}}}}
  lds_config: {{ads: {{}}}}
static_resources:
  clusters:
"""


def with_ads(
    address: str, kind: str = "STATIC", api_type: str = "DELTA_GRPC", cluster: str = "xds-grpc"
) -> str:
    lines = XDS.format(type=kind, address=address).strip().splitlines()
    item = "\n".join(f"{'  - ' if not index else '    '}{line}" for index, line in enumerate(lines))
    return ADS.format(api_type=api_type, cluster=cluster) + item + "\n"


PIPE = "{pipe: {path: ./etc/istio/proxy/XDS}}"
SOCKET = "{socket_address: {address: 10.0.0.1, port_value: 15010}}"
NAMED = "{socket_address: {address: istiod.istio-system.svc, port_value: 15010}}"


@pytest.mark.parametrize(
    ("text", "target", "delta"),
    [
        pytest.param(with_ads(PIPE), "unix:./etc/istio/proxy/XDS", True, id="unix socket"),
        pytest.param(with_ads(SOCKET, api_type="GRPC"), "ipv4:10.0.0.1:15010", False, id="tcp"),
        pytest.param(
            with_ads(NAMED, kind="STRICT_DNS"),
            "dns:///istiod.istio-system.svc:15010",
            True,
            id="name",
        ),
    ],
)
def test_ads_source(text: str, target: str, delta: bool) -> None:
    found = read_bootstrap(text)
    assert found.ads == GrpcSource(
        cluster_name="xds-grpc",
        target=target,
        delta=delta,
        metadata=(("authorization", "Bearer x"),),
        base_interval=0.1,
        max_interval=2.0,
    )
    assert (found.dynamic_clusters, found.dynamic_listeners) == (True, True)


def test_json_and_yaml_are_the_same() -> None:
    value = {"node": {"id": "n"}, "admin": {"address": {"pipe": {"path": "/admin"}}}}
    found = read_bootstrap(json.dumps(value))
    same = read_bootstrap("node: {id: n}\nadmin:\n  address: {pipe: {path: /admin}}\n")
    assert found == same
    assert (found.admin_path, found.admin_address) == ("/admin", None)


def test_yaml_is_read_as_envoy_reads_it() -> None:
    found = read_bootstrap("node: {id: on, cluster: 2026-01-01, metadata: {a: yes, b: true}}")
    assert (found.node.id, found.node.cluster) == ("on", "2026-01-01")
    assert dict(found.node.metadata) == {"a": "yes", "b": True}


def test_flags_and_overlay() -> None:
    found = read_bootstrap(
        "node: {id: a, cluster: b}",
        config_yaml="node: {locality: {zone: z}}\n"
        "admin: {address: {socket_address: {address: '::1', port_value: 1}}}",
        service_node="c",
        service_cluster="d",
    )
    assert (found.node.id, found.node.cluster, found.node.locality.zone) == ("c", "d", "z")
    assert found.admin_address == ("::1", 1)


def test_node_says_what_is_built_in() -> None:
    node = read_bootstrap("node: {id: a}").node
    assert node.user_agent_name == "meshlab-proxy"
    build = node.user_agent_build_version.version
    assert f"{build.major_number}.{build.minor_number}.{build.patch}" == version("meshlab")
    names = [extension.name for extension in node.extensions]
    assert {"istio.stats", "istio.alpn", "istio.metadata_exchange"} < set(names)
    assert "envoy.filters.http.lua" not in names


def test_runtime_that_changes_nothing_is_taken() -> None:
    read_bootstrap(
        "layered_runtime: {layers: [{name: l, static_layer: {"
        "re2.max_program_size.error_level: 32768,"
        "overload.global_downstream_max_connections: 2147483647}}]}"
    )


LISTENER = """
static_resources:
  listeners:
  - address: {socket_address: {address: 127.0.0.1, port_value: PORT}}
    filter_chains:
    - filters:
      - name: tcp
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TYPE
          FIELD: x
          cluster: c
"""


def load(text: str) -> Bootstrap:
    found = read_bootstrap(text, name="b.yaml")
    Configuration(found).load_static()
    return found


def changed(**words: str) -> str:
    text = LISTENER
    for word, value in {"PORT": "1", "TYPE": "TcpProxy", "FIELD": "stat_prefix", **words}.items():
        text = text.replace(word, value)
    return text


CONFIG = "static_resources.listeners[0].filter_chains[0].filters[0].typed_config"


@pytest.mark.parametrize(
    ("text", "field", "what"),
    [
        pytest.param("a: [\n", "line 2, column 1", "is not YAML or JSON", id="not yaml"),
        pytest.param("- a", "", "must be an object", id="a list"),
        pytest.param("nod: {}", "nod", "is not a field of envoy.config.bootstrap", id="typo"),
        pytest.param(
            changed(PORT="many"),
            "static_resources.listeners[0].address.socket_address.port_value",
            "invalid literal",
            id="no number",
        ),
        pytest.param(
            changed(FIELD="stat_prefx"),
            f"{CONFIG}.stat_prefx",
            "is not a field of",
            id="typo in an extension",
        ),
        pytest.param(
            changed(TYPE="Lua"), CONFIG, "is an extension that this proxy does not have", id="lua"
        ),
        pytest.param(
            changed(FIELD="on_demand: {}\n          stat_prefix"),
            f"{CONFIG}.on_demand",
            "is not supported by this proxy",
            id="unsupported",
        ),
        pytest.param(
            "layered_runtime: {layers: [{name: a, static_layer: {health_check.min_interval: 1}}]}",
            "layered_runtime.layers[0].static_layer['health_check.min_interval']",
            "is a runtime key that this proxy does not have",
            id="runtime",
        ),
        pytest.param(
            with_ads(SOCKET, cluster="other"),
            "dynamic_resources.ads_config.grpc_services[0].envoy_grpc.cluster_name",
            "names no cluster of static_resources",
            id="no such cluster",
        ),
        pytest.param(
            with_ads(SOCKET, api_type="REST"),
            "dynamic_resources.ads_config.api_type",
            "is not supported",
            id="rest",
        ),
        pytest.param(
            "dynamic_resources: {cds_config: {ads: {}}}",
            "dynamic_resources.cds_config.ads",
            "asks for ADS",
            id="no ads server",
        ),
    ],
)
def test_refused(text: str, field: str, what: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(text)
    assert (caught.value.object, caught.value.field) in [("b.yaml", field), ("", field)]
    assert caught.value.what.startswith(what)
    assert field in str(caught.value)


INLINE = """
static_resources:
  clusters: [{name: known, type: STATIC, connect_timeout: 1s}]
  listeners:
  - name: l
    address: {socket_address: {address: 127.0.0.1, port_value: 1}}
    filter_chains:
    - filters:
      - name: http
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: x
          http_filters: [{name: router, typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}]
          route_config:
            validate_clusters: VALIDATE
            virtual_hosts: [{name: a, domains: ["*"], routes: [{match: {prefix: /}, route: {cluster: CLUSTER}}]}]
"""  # noqa: E501 - protobuf's names


def test_inline_routes_to_unknown_clusters() -> None:
    with pytest.raises(ConfigError, match=r"typed_config.route_config: routes to cluster 'c', "):
        load(INLINE.replace("CLUSTER", "c").replace("VALIDATE", "true"))
    load(INLINE.replace("CLUSTER", "c").replace("VALIDATE", "false"))
    load(INLINE.replace("CLUSTER", "known").replace("VALIDATE", "true"))


def test_http2_clusters_take_no_requests() -> None:
    text = with_ads(SOCKET) + INLINE.split("static_resources:\n")[1].replace(
        "  clusters: [{name: known, type: STATIC, connect_timeout: 1s}]\n", ""
    )
    text = text.replace("VALIDATE", "false").replace("CLUSTER", "xds-grpc")
    with pytest.raises(ConfigError, match="which speaks HTTP/2 only"):
        load(text)
