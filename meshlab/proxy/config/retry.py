"""Read when and how often a request is sent again (Envoy `RetryPolicy`)."""

from envoy.config.route.v3.route_components_pb2 import RetryPolicy as RetryPolicyMessage

from meshlab.errors import ConfigError
from meshlab.proxy.config.matcher import compile_header_matchers
from meshlab.proxy.config.protobuf import duration, join, type_name, wrapped
from meshlab.proxy.core.retry import CONDITIONS, RetryPolicy

PREVIOUS_HOSTS = "envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"


def compile_retry_policy(message: RetryPolicyMessage, path: str) -> RetryPolicy:
    backoff, backoff_path = message.retry_back_off, join(path, "retry_back_off")
    base_interval = duration(backoff, "base_interval", 0.025, backoff_path)
    if message.HasField("retry_back_off") and base_interval <= 0:
        raise ConfigError("must be more than 0 s", field=join(backoff_path, "base_interval"))
    max_interval = duration(backoff, "max_interval", 10 * base_interval, backoff_path)
    if max_interval < base_interval:
        raise ConfigError(
            "must be at least base_interval", field=join(backoff_path, "max_interval")
        )
    return RetryPolicy(
        retry_on=compile_retry_on(message.retry_on, join(path, "retry_on")),
        num_retries=wrapped(message, "num_retries", 1),
        per_try_timeout=duration(message, "per_try_timeout", 0.0, path),
        per_try_idle_timeout=duration(message, "per_try_idle_timeout", 0.0, path),
        retriable_status_codes=frozenset(message.retriable_status_codes),
        retriable_headers=compile_header_matchers(
            message.retriable_headers, join(path, "retriable_headers")
        ),
        retriable_request_headers=compile_header_matchers(
            message.retriable_request_headers, join(path, "retriable_request_headers")
        ),
        previous_hosts=has_previous_hosts(message, path),
        host_selection_attempts=message.host_selection_retry_max_attempts or 1,
        base_interval=base_interval,
        max_interval=max_interval,
    )


def compile_retry_on(text: str, path: str) -> frozenset[str]:
    """Return the conditions of `5xx,reset`.

    Raises:
        ConfigError: a condition that nobody knows; Envoy would pass over a misspelt one.
    """
    conditions = frozenset(part.strip() for part in text.split(",") if part.strip())
    unknown = sorted(conditions - CONDITIONS)
    if unknown:
        raise ConfigError(
            "names no retry condition",
            field=path,
            found=", ".join(unknown),
            allowed=", ".join(sorted(CONDITIONS)),
        )
    return conditions


def has_previous_hosts(message: RetryPolicyMessage, path: str) -> bool:
    for index, predicate in enumerate(message.retry_host_predicate):
        name = type_name(predicate.typed_config) or predicate.name
        if name not in (PREVIOUS_HOSTS, "envoy.retry_host_predicates.previous_hosts"):
            raise ConfigError(
                "is a host predicate that this proxy does not have",
                field=f"{join(path, 'retry_host_predicate')}[{index}]",
                found=name,
            )
    return bool(message.retry_host_predicate)
