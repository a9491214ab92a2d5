"""VirtualService `match` → Envoy's route match; conditions on the caller are decided here."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from envoy.config.route.v3 import route_components_pb2
from envoy.type.matcher.v3 import regex_pb2, string_pb2

from meshlab.api.istio.virtual_service import HTTPMatchRequest, StringMatch
from meshlab.control.translate.index import gateway_names, selects


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Whose routes are made: what `port`, `gateways`, `sourceLabels`, `sourceNamespace` test."""

    port: int
    """Of the listener that takes the request."""
    gateways: frozenset[str]
    """`mesh` for a sidecar, else the `namespace/name` of the Gateways that bring the request."""
    namespace: str
    labels: Mapping[str, str]


def applies(match: HTTPMatchRequest, source: Source, vs_namespace: str) -> bool:
    """Tell whether an entry can hold at all for requests of this source."""
    if match.port and match.port != source.port:
        return False
    if match.gateways:
        return bool(gateway_names(match.gateways, vs_namespace) & source.gateways)
    if match.source_namespace and match.source_namespace != source.namespace:
        return False
    return selects(match.source_labels, source.labels)


def route_match(match: HTTPMatchRequest | None) -> Any:
    """Return Envoy's match; None matches every request."""
    made = route_components_pb2.RouteMatch(prefix="/")
    if match is None:
        return made
    _apply_uri(made, match.uri)
    made.case_sensitive.value = not match.ignore_uri_case
    for name, condition, inverted in sorted(
        [(name, each, False) for name, each in match.headers.items()]
        + [(name, each, True) for name, each in match.without_headers.items()],
        key=lambda entry: (entry[0], entry[2]),
    ):
        made.headers.append(_header(name, condition, inverted=inverted))
    for name, optional in (
        (":method", match.method),
        (":authority", match.authority),
        (":scheme", match.scheme),
    ):
        if optional is not None:
            made.headers.append(_header(name, optional, inverted=False))
    for name in sorted(match.query_params):
        made.query_parameters.append(_query(name, match.query_params[name]))
    return made


def is_catch_all(match: Any) -> bool:
    """Tell whether an Envoy match takes every request, so that no later route is reached."""
    path = match.prefix == "/" or match.safe_regex.regex == ".*"
    return path and not match.headers and not match.query_parameters


def _apply_uri(made: Any, uri: StringMatch | None) -> None:
    if uri is None:
        return
    if uri.exact is not None:
        made.path = uri.exact
    elif uri.prefix is not None:
        made.prefix = uri.prefix
    elif uri.regex is not None:
        made.safe_regex.CopyFrom(_regex(uri.regex))


def _header(name: str, condition: StringMatch, *, inverted: bool) -> Any:
    made = route_components_pb2.HeaderMatcher(name=name, invert_match=inverted)
    if _is_presence(condition):
        made.present_match = True
    else:
        made.string_match.CopyFrom(_string(condition))
        # "Without x=y" holds where there is no x.
        made.treat_missing_header_as_empty = inverted
    return made


def _query(name: str, condition: StringMatch) -> Any:
    made = route_components_pb2.QueryParameterMatcher(name=name)
    if _is_presence(condition):
        made.present_match = True
    else:
        made.string_match.CopyFrom(_string(condition))
    return made


def _is_presence(condition: StringMatch) -> bool:
    if condition.regex is not None:
        return condition.regex == "*"
    return condition.exact is None and condition.prefix is None


def _string(condition: StringMatch) -> Any:
    if condition.exact is not None:
        return string_pb2.StringMatcher(exact=condition.exact)
    if condition.prefix is not None:
        return string_pb2.StringMatcher(prefix=condition.prefix)
    return string_pb2.StringMatcher(safe_regex=_regex(condition.regex or ""))


def _regex(regex: str) -> Any:
    return regex_pb2.RegexMatcher(regex=regex)
