"""Read how a cluster's hosts are chosen (Envoy `lb_policy`, `load_balancing_policy`)."""

from typing import Any as Anything
from typing import Literal

from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.extensions.load_balancing_policies.least_request.v3.least_request_pb2 import LeastRequest
from envoy.extensions.load_balancing_policies.random.v3.random_pb2 import Random
from envoy.extensions.load_balancing_policies.round_robin.v3.round_robin_pb2 import RoundRobin
from google.protobuf.message import Message

from meshlab.errors import ConfigError
from meshlab.proxy.config.matcher import compile_percent
from meshlab.proxy.config.protobuf import join, type_name, unpack, wrapped

Policy = Literal["round_robin", "least_request", "random", "cluster_provided"]

POLICIES: dict[int, Policy] = {
    Cluster.ROUND_ROBIN: "round_robin",
    Cluster.LEAST_REQUEST: "least_request",
    Cluster.RANDOM: "random",
    Cluster.CLUSTER_PROVIDED: "cluster_provided",
}
EXTENSIONS: dict[str, Policy] = {
    RoundRobin.DESCRIPTOR.full_name: "round_robin",
    LeastRequest.DESCRIPTOR.full_name: "least_request",
    Random.DESCRIPTOR.full_name: "random",
}


def compile_load_balancer(message: Cluster, path: str) -> dict[str, Anything]:
    """Return the fields of `core.cluster.Cluster` that say how a host is chosen."""
    common = message.common_lb_config
    panic = 50.0
    if common.HasField("healthy_panic_threshold"):
        panic = compile_percent(
            common.healthy_panic_threshold, join(path, "common_lb_config.healthy_panic_threshold")
        )
    policy, least_request = compile_policy(message, path)
    return {
        "lb_policy": policy,
        "healthy_panic_percent": panic,
        "locality_weighted": common.HasField("locality_weighted_lb_config"),
        **least_request,
    }


def compile_policy(message: Cluster, path: str) -> tuple[Policy, dict[str, Anything]]:
    """Return (policy, settings of least_request); `load_balancing_policy` wins over `lb_policy`."""
    if message.HasField("load_balancing_policy"):
        place = join(path, "load_balancing_policy.policies")
        if not message.load_balancing_policy.policies:
            raise ConfigError("must not be empty", field=place)
        config = message.load_balancing_policy.policies[0].typed_extension_config.typed_config
        place = f"{place}[0].typed_extension_config.typed_config"
        policy = EXTENSIONS.get(type_name(config))
        if policy is None:
            raise ConfigError(
                "is a policy that this proxy does not have", field=place, found=type_name(config)
            )
        if policy == "least_request":
            return policy, compile_least_request(unpack(config, LeastRequest, place), place)
        return policy, {}
    chosen = POLICIES.get(message.lb_policy)
    if chosen is None:
        raise ConfigError(
            "is a policy that this proxy does not have",
            field=join(path, "lb_policy"),
            found=Cluster.LbPolicy.Name(message.lb_policy),
            allowed="ROUND_ROBIN, LEAST_REQUEST, RANDOM, CLUSTER_PROVIDED",
        )
    if chosen == "least_request":
        config_path = join(path, "least_request_lb_config")
        return chosen, compile_least_request(message.least_request_lb_config, config_path)
    return chosen, {}


def compile_least_request(message: Message, path: str) -> dict[str, Anything]:
    """Return the settings of `LeastRequest` or `LeastRequestLbConfig`."""
    choice_count = wrapped(message, "choice_count", 2)
    if choice_count < 2:
        raise ConfigError("must be at least 2", field=join(path, "choice_count"))
    bias = 1.0
    if message.HasField("active_request_bias"):
        bias = message.active_request_bias.default_value  # type: ignore[attr-defined]  # both have it
    return {"choice_count": choice_count, "active_request_bias": bias}
