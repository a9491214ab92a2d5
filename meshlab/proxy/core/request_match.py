"""Header matchers against a request head, HTTP/2's pseudo-headers among them."""

from collections.abc import Callable, Sequence

from meshlab.proxy.core.http1 import RequestHead
from meshlab.proxy.core.matcher import HeaderMatch, compile_header


def request_values(head: RequestHead, name: bytes) -> list[bytes]:
    """Return the values that a header matcher sees."""
    if name[0] != 58:  # b":"
        return head.headers.all(name)
    if name == b":method":
        return [head.method]
    if name == b":path":
        return [head.target]
    if name == b":authority":
        return [head.authority] if head.authority is not None else []
    if name == b":scheme":
        return [head.scheme or b"http"]
    return []


def compile_headers(
    matches: Sequence[HeaderMatch], *, field: str = ""
) -> Callable[[RequestHead], bool] | None:
    """Return the conjunction of `matches` as a function of the request; None for no condition."""
    tests = [
        (match.name, compile_header(match, field=f"{field}[{place}]"))
        for place, match in enumerate(matches)
    ]
    if not tests:
        return None

    def all_hold(head: RequestHead) -> bool:
        return all(test(request_values(head, name)) for name, test in tests)

    return all_hold
