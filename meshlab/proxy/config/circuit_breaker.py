"""Read a cluster's limits (Envoy `CircuitBreakers`)."""

from envoy.config.cluster.v3.circuit_breaker_pb2 import CircuitBreakers as Message
from envoy.config.core.v3.base_pb2 import RoutingPriority

from meshlab.errors import ConfigError
from meshlab.proxy.config.matcher import compile_percent
from meshlab.proxy.config.protobuf import join, wrapped
from meshlab.proxy.core.circuit_breaker import DEFAULT_THRESHOLDS, CircuitBreakers, Thresholds


def compile_circuit_breakers(message: Message, path: str) -> CircuitBreakers:
    """Return the limits of both priorities; the first entry of a priority counts, as in Envoy."""
    found: dict[int, Thresholds] = {}
    for index, item in enumerate(message.thresholds):
        found.setdefault(
            item.priority, compile_thresholds(item, join(path, f"thresholds[{index}]"))
        )
    return CircuitBreakers(
        default=found.get(RoutingPriority.DEFAULT, DEFAULT_THRESHOLDS),
        high=found.get(RoutingPriority.HIGH, DEFAULT_THRESHOLDS),
        per_host_max_connections=compile_per_host(message, join(path, "per_host_thresholds")),
    )


def compile_thresholds(message: Message.Thresholds, path: str) -> Thresholds:
    budget = message.retry_budget
    percent = None
    if message.HasField("retry_budget"):
        percent = 20.0
        if budget.HasField("budget_percent"):
            percent = compile_percent(
                budget.budget_percent, join(path, "retry_budget.budget_percent")
            )
    return Thresholds(
        max_connections=wrapped(message, "max_connections", 1024),
        max_pending_requests=wrapped(message, "max_pending_requests", 1024),
        max_requests=wrapped(message, "max_requests", 1024),
        max_retries=wrapped(message, "max_retries", 3),
        retry_budget_percent=percent,
        min_retry_concurrency=wrapped(budget, "min_retry_concurrency", 3),
        track_remaining=message.track_remaining,
    )


def compile_per_host(message: Message, path: str) -> int | None:
    """Return the connections that one host may have; None: no limit of its own."""
    limit = None
    for index, item in enumerate(message.per_host_thresholds):
        for field, _ in item.ListFields():
            if field.name not in ("priority", "max_connections"):
                raise ConfigError("is not supported by host", field=f"{path}[{index}].{field.name}")
        if item.priority == RoutingPriority.DEFAULT and limit is None:
            limit = wrapped(item, "max_connections", None)
    return limit
