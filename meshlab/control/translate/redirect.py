"""VirtualService `redirect` and `directResponse`: answers that a route gives by itself."""

from typing import Any

from envoy.config.route.v3 import route_components_pb2

from meshlab.api.istio.virtual_service import HTTPDirectResponse, HTTPRedirect

_Action = route_components_pb2.RedirectAction

CODES = {
    301: _Action.MOVED_PERMANENTLY,
    302: _Action.FOUND,
    303: _Action.SEE_OTHER,
    307: _Action.TEMPORARY_REDIRECT,
    308: _Action.PERMANENT_REDIRECT,
}
_DEFAULT_PORTS = {"http": 80, "https": 443}


def redirect_action(redirect: HTTPRedirect) -> Any:
    made = _Action(
        host_redirect=redirect.authority, response_code=CODES[redirect.redirect_code or 301]
    )
    if redirect.scheme:
        made.scheme_redirect = redirect.scheme
    if redirect.prefix_rewrite:
        made.prefix_rewrite = redirect.prefix_rewrite
    elif redirect.uri:
        made.path_redirect = redirect.uri
    if redirect.port:
        made.port_redirect = redirect.port
    elif redirect.derive_port == "FROM_PROTOCOL_DEFAULT":
        made.port_redirect = _DEFAULT_PORTS.get(redirect.scheme, 80)
    return made


def direct_response_action(response: HTTPDirectResponse) -> Any:
    made = route_components_pb2.DirectResponseAction(status=response.status)
    if response.body is not None and response.body.bytes is not None:
        made.body.inline_bytes = response.body.bytes
    elif response.body is not None and response.body.string is not None:
        made.body.inline_string = response.body.string
    return made
