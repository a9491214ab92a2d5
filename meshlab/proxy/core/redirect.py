"""The Location a redirecting route answers with (Envoy `RedirectAction`)."""

from collections.abc import Callable

from meshlab.proxy.core.http1 import RequestHead
from meshlab.proxy.core.path import split
from meshlab.proxy.core.route import Redirect, without_port


def location(
    redirect: Redirect, rewrite: Callable[[bytes], bytes] | None, head: RequestHead, scheme: bytes
) -> bytes:
    """Return the new URL. Ports that the scheme implies are left out when the scheme changes."""
    authority = head.authority or b""
    new_scheme = redirect.scheme or scheme
    host = redirect.host or (
        without_port(authority)
        if redirect.port or implied_port_changes(authority, scheme, new_scheme)
        else authority
    )
    if redirect.port and not (
        (new_scheme == b"http" and redirect.port == 80)
        or (new_scheme == b"https" and redirect.port == 443)
    ):
        host = b"%b:%d" % (host, redirect.port)
    path, rest = split(head.target)
    if redirect.strip_query:
        rest = b""
    if redirect.path:
        path = redirect.path
        if b"?" in path:
            rest = b""
    elif rewrite is not None:
        path = rewrite(path)
    return b"%b://%b%b%b" % (new_scheme, host, path, rest)


def implied_port_changes(authority: bytes, old: bytes, new: bytes) -> bool:
    return old != new and authority.endswith((b":80", b":443"))
