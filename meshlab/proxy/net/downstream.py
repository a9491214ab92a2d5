"""What a request asks of the client's connection, whichever version of HTTP that speaks."""

from typing import TYPE_CHECKING, Protocol

from meshlab.proxy.core.head import Headers
from meshlab.proxy.core.http1 import ResponseHead
from meshlab.proxy.core.stream_info import ConnectionInfo

if TYPE_CHECKING:
    from meshlab.proxy.net.stream import Stream

TUNNEL = -3
"""Body length after an upgrade: bytes, for as long as they come."""


class Downstream(Protocol):
    """The server side of a connection, as a request sees it."""

    info: ConnectionInfo

    def close_after_response(self) -> None:
        """Take no further request."""
        ...

    def send_informational(self, head: ResponseHead) -> None:
        """Pass on a 1xx."""
        ...

    def send_response(
        self, status: int, reason: bytes, headers: Headers, length: int, data: bytes, end: bool
    ) -> None:
        """Begin the response; `length` as in `ResponseHead.body`."""
        ...

    def send_data(self, data: bytes, end: bool, trailers: Headers | None) -> None:
        """Send more of its body."""
        ...

    def finished(self, stream: "Stream") -> None:
        """Response and request are over, or nobody wants the rest."""
        ...

    def abort(self) -> None:
        """The response cannot be completed: the client must see that."""
        ...

    def pause_reading(self) -> None:
        """Read no more of the request for now."""
        ...

    def resume_reading(self) -> None:
        """Read on."""
        ...
