"""What is wrong with a VirtualService, as Istio's admission judges it."""

from collections.abc import Mapping

from meshlab.api.field import Problems, child, item
from meshlab.api.istio.virtual_service import (
    GRPC_STATUS,
    MAX_DIRECT_RESPONSE,
    REDIRECT_CODES,
    Destination,
    FaultAbort,
    FaultDelay,
    HeaderOperations,
    Headers,
    HTTPDirectResponse,
    HTTPFaultInjection,
    HTTPMatchRequest,
    HTTPRedirect,
    HTTPRetry,
    HTTPRewrite,
    HTTPRoute,
    HTTPRouteDestination,
    StringMatch,
    VirtualService,
)
from meshlab.control.rule import check

RETRY_CONDITIONS = (
    "5xx",
    "gateway-error",
    "reset",
    "reset-before-request",
    "connect-failure",
    "envoy-ratelimited",
    "retriable-4xx",
    "refused-stream",
    "retriable-status-codes",
    "retriable-headers",
    "http3-post-connect-failure",
    "cancelled",
    "deadline-exceeded",
    "internal",
    "resource-exhausted",
    "unavailable",
)
"""Envoy's `x-envoy-retry-on` and `x-envoy-retry-grpc-on`."""


def check_virtual_service(problems: Problems, spec: VirtualService) -> None:
    _check_hosts(problems, spec)
    check.unique(problems, "spec.gateways", spec.gateways)
    for i, name in enumerate(spec.gateways):
        _check_gateway(problems, item("spec.gateways", i), name)
    check.export_to(problems, "spec.exportTo", spec.export_to)
    if not (spec.http or spec.tls or spec.tcp):
        problems.refuse("spec", "routes nothing", "nothing", "http, tls or tcp", "Add spec.http")
    for i, route in enumerate(spec.http):
        _check_route(problems, item("spec.http", i), route)


def _check_hosts(problems: Problems, spec: VirtualService) -> None:
    if not spec.hosts:
        problems.refuse("spec.hosts", "is missing", "nothing", "a list of host names")
    check.unique(problems, "spec.hosts", spec.hosts)
    for i, name in enumerate(spec.hosts):
        check.host(problems, item("spec.hosts", i), name)
        if name == "*" and (not spec.gateways or "mesh" in spec.gateways):
            problems.refuse(
                item("spec.hosts", i),
                "would take every host of the mesh",
                name,
                "host names, or * with gateways other than mesh",
                "Name the hosts, or bind it to a gateway",
            )


def _check_gateway(problems: Problems, path: str, name: str) -> None:
    namespace, slash, short = name.rpartition("/")
    if not short or (slash and not namespace):
        problems.refuse(path, "is not a gateway's name", name, "name, namespace/name or mesh")
        return
    for part in filter(None, (namespace, short)):
        check.dns_name(problems, path, part, found=name)


def _check_route(problems: Problems, path: str, route: HTTPRoute) -> None:
    _check_action(problems, path, route)
    for i, match in enumerate(route.match):
        _check_match(problems, item(child(path, "match"), i), match)
    if route.route:
        _check_destinations(problems, child(path, "route"), route.route)
    if route.redirect is not None:
        _check_redirect(problems, child(path, "redirect"), route.redirect)
    if route.direct_response is not None:
        _check_direct_response(problems, child(path, "directResponse"), route.direct_response)
    if route.rewrite is not None:
        _check_rewrite(problems, child(path, "rewrite"), route.rewrite)
    if route.retries is not None:
        _check_retries(problems, child(path, "retries"), route.retries)
    if route.fault is not None:
        _check_fault(problems, child(path, "fault"), route.fault)
    _check_headers(problems, child(path, "headers"), route.headers)
    check.timeout(problems, child(path, "timeout"), route.timeout)


def _check_action(problems: Problems, path: str, route: HTTPRoute) -> None:
    """Check that a rule does one thing, and says nothing that only forwarding could do."""
    actions = {
        "route": bool(route.route),
        "redirect": route.redirect is not None,
        "directResponse": route.direct_response is not None,
        "delegate": route.delegate is not None,
    }
    chosen = [name for name, there in actions.items() if there]
    if len(chosen) != 1:
        problems.refuse(
            path,
            "must do exactly one thing",
            " and ".join(chosen) or "nothing",
            "one of " + ", ".join(actions),
            f"Keep one of {' and '.join(chosen)}" if chosen else "Add route",
        )
    answers = route.redirect is not None or route.direct_response is not None
    for name, there in (
        ("rewrite", route.rewrite is not None),
        ("fault", route.fault is not None),
    ):
        if there and answers:
            problems.refuse(
                child(path, name),
                "has no meaning where nothing is forwarded",
                " with ".join([name, *chosen]),
                "",
                f"Remove {name}",
            )


def _check_match(problems: Problems, path: str, match: HTTPMatchRequest) -> None:
    for name, single in (
        ("uri", match.uri),
        ("scheme", match.scheme),
        ("method", match.method),
        ("authority", match.authority),
    ):
        if single is not None:
            _check_string(problems, child(path, name), single)
    for name, conditions in (
        ("headers", match.headers),
        ("withoutHeaders", match.without_headers),
    ):
        _check_header_conditions(problems, child(path, name), conditions)
    for key, condition in match.query_params.items():
        place = item(child(path, "queryParams"), key)
        if not key:
            problems.refuse(place, "has no name", '""', "the parameter's name")
        _check_string(problems, place, condition)
    if match.port:
        check.port(problems, child(path, "port"), match.port)
    check.labels(problems, child(path, "sourceLabels"), match.source_labels.items())
    for i, name in enumerate(match.gateways):
        _check_gateway(problems, item(child(path, "gateways"), i), name)
    if match.ignore_uri_case and match.uri is not None and match.uri.regex is not None:
        problems.refuse(
            child(path, "ignoreUriCase"), "has no meaning with a regex", True, "", "Write (?i)"
        )


def _check_header_conditions(
    problems: Problems, path: str, conditions: Mapping[str, StringMatch]
) -> None:
    for name, condition in conditions.items():
        place = item(path, name)
        if name.startswith("@request.auth."):
            problems.refuse(place, "is not supported yet", name, "", "Remove it")
            continue
        check.header_name(problems, place, name)
        _check_string(problems, place, condition)


def _check_string(problems: Problems, path: str, condition: StringMatch) -> None:
    if condition.prefix == "":
        problems.refuse(child(path, "prefix"), "is empty", '""', "a text", "Leave out the match")
    if condition.regex is not None and condition.regex != "*":
        check.regex(problems, child(path, "regex"), condition.regex)


def _check_destinations(
    problems: Problems, path: str, destinations: tuple[HTTPRouteDestination, ...]
) -> None:
    for i, each in enumerate(destinations):
        place = item(path, i)
        check.not_negative(problems, child(place, "weight"), each.weight)
        _check_destination(problems, child(place, "destination"), each.destination)
        _check_headers(problems, child(place, "headers"), each.headers)
    if len(destinations) > 1 and sum(each.weight for each in destinations) == 0:
        problems.refuse(path, "sends nothing anywhere: all weights are 0", 0, "", "Set weights")


def _check_destination(problems: Problems, path: str, destination: Destination) -> None:
    check.dns_name(problems, child(path, "host"), destination.host)
    if destination.subset:
        check.label(problems, child(path, "subset"), destination.subset)
    if destination.port is not None:
        check.port(problems, child(path, "port.number"), destination.port.number)


def _check_headers(problems: Problems, path: str, headers: Headers | None) -> None:
    if headers is None:
        return
    for name, operations in (("request", headers.request), ("response", headers.response)):
        if operations is not None:
            _check_operations(problems, child(path, name), operations)


def _check_operations(problems: Problems, path: str, operations: HeaderOperations) -> None:
    for place, names in (
        ("set", operations.set),
        ("add", operations.add),
        ("remove", operations.remove),
    ):
        for name in names:
            # `:authority` in set and add becomes a rewrite of the host.
            if name != ":authority":
                check.header_name(problems, item(child(path, place), name), name)


def _check_redirect(problems: Problems, path: str, redirect: HTTPRedirect) -> None:
    says = (
        redirect.uri,
        redirect.prefix_rewrite,
        redirect.authority,
        redirect.scheme,
        redirect.port,
        redirect.derive_port,
    )
    if not any(says):
        problems.refuse(path, "leads nowhere else", "nothing", "uri, authority, scheme or port")
    if redirect.redirect_code and redirect.redirect_code not in REDIRECT_CODES:
        problems.refuse(
            child(path, "redirectCode"),
            "is not a redirect",
            redirect.redirect_code,
            ", ".join(map(str, REDIRECT_CODES)),
        )
    if redirect.scheme not in ("", "http", "https"):
        problems.refuse(child(path, "scheme"), "is not known", redirect.scheme, "http, https")
    check.port(problems, child(path, "port"), redirect.port)


def _check_direct_response(problems: Problems, path: str, response: HTTPDirectResponse) -> None:
    if not 200 <= response.status <= 599:
        problems.refuse(child(path, "status"), "is not a status", response.status, "200 to 599")
    if response.body is None:
        return
    size = len(response.body.bytes or (response.body.string or "").encode())
    if size > MAX_DIRECT_RESPONSE:
        problems.refuse(child(path, "body"), "is too large", f"{size} bytes", "at most 1 MiB")


def _check_rewrite(problems: Problems, path: str, rewrite: HTTPRewrite) -> None:
    regex = rewrite.uri_regex_rewrite
    if not (rewrite.uri or rewrite.authority or regex):
        problems.refuse(path, "changes nothing", "nothing", "uri, uriRegexRewrite or authority")
    if regex is not None:
        check.regex(problems, child(path, "uriRegexRewrite.match"), regex.match)
        if not regex.rewrite:
            problems.refuse(
                child(path, "uriRegexRewrite.rewrite"), "is missing", "nothing", "a substitution"
            )


def _check_retries(problems: Problems, path: str, retries: HTTPRetry) -> None:
    check.not_negative(problems, child(path, "attempts"), retries.attempts)
    if retries.attempts == 0 and (retries.per_try_timeout is not None or retries.retry_on):
        problems.refuse(
            child(path, "attempts"),
            "is 0, which switches retries off, yet their policy is set",
            0,
            "1 or more, or a block with attempts: 0 alone",
            "Set attempts",
        )
    check.duration(problems, child(path, "perTryTimeout"), retries.per_try_timeout)
    check.duration(problems, child(path, "backoff"), retries.backoff)
    for part in filter(None, (part.strip() for part in retries.retry_on.split(","))):
        if part in RETRY_CONDITIONS or (part.isdigit() and 100 <= int(part) <= 599):
            continue
        problems.refuse(
            child(path, "retryOn"),
            "is not a condition",
            part,
            "status codes and " + ", ".join(RETRY_CONDITIONS),
        )


def _check_fault(problems: Problems, path: str, fault: HTTPFaultInjection) -> None:
    if fault.delay is None and fault.abort is None:
        problems.refuse(path, "is no fault", "nothing", "delay or abort")
    if fault.delay is not None:
        _check_delay(problems, child(path, "delay"), fault.delay)
    if fault.abort is not None:
        _check_abort(problems, child(path, "abort"), fault.abort)


def _check_delay(problems: Problems, path: str, delay: FaultDelay) -> None:
    check.percent(problems, child(path, "percent"), delay.percent)
    if delay.percentage is not None:
        check.percent(problems, child(path, "percentage.value"), delay.percentage.value)
    if delay.fixed_delay is None and delay.exponential_delay is None:
        problems.refuse(path, "does not say how long", "nothing", "fixedDelay")
    check.duration(problems, child(path, "fixedDelay"), delay.fixed_delay)


def _check_abort(problems: Problems, path: str, abort: FaultAbort) -> None:
    if abort.percentage is not None:
        check.percent(problems, child(path, "percentage.value"), abort.percentage.value)
    if abort.http_status is None and abort.grpc_status is None and abort.http2_error is None:
        problems.refuse(path, "does not say how", "nothing", "httpStatus or grpcStatus")
    if abort.http_status is not None and not 200 <= abort.http_status <= 599:
        problems.refuse(
            child(path, "httpStatus"), "is not a status", abort.http_status, "200 to 599"
        )
    if abort.grpc_status is not None and abort.grpc_status not in GRPC_STATUS:
        problems.refuse(
            child(path, "grpcStatus"), "is not a status", abort.grpc_status, ", ".join(GRPC_STATUS)
        )
