"""What can go wrong, by what the one who catches it does.

An error carries its parts (object, field, found, allowed, fix), not only a sentence, so that a
NACK, the command line and a notebook can each point at the line that is wrong.
"""


class MeshlabError(Exception):
    """Everything meshlab raises on purpose.

    Attributes:
        what: the sentence: what is wrong.
        object: which object, as the user names it (`VirtualService shop/reviews`); "" when none.
        field: path of the field (`spec.http[0].route[1].weight`); "" when none.
        found: what stands there, as text.
        allowed: what may stand there.
        fix: the next step.
    """

    def __init__(
        self,
        what: str,
        *,
        object: str = "",  # noqa: A002 - the word every catcher reads
        field: str = "",
        found: str = "",
        allowed: str = "",
        fix: str = "",
    ) -> None:
        self.what = what
        self.object = object
        self.field = field
        self.found = found
        self.allowed = allowed
        self.fix = fix
        super().__init__(self.render())

    def render(self) -> str:
        """Return one line: `object: field: what (found …; allowed …). fix`."""
        place = ": ".join(part for part in (self.object, self.field) if part)
        facts = "; ".join(
            f"{word} {part}"
            for word, part in (("found", self.found), ("allowed:", self.allowed))
            if part
        )
        line = f"{place}: {self.what}" if place else self.what
        if facts:
            line += f" ({facts})"
        return f"{line}. {self.fix}" if self.fix else line


class ConfigError(MeshlabError):
    """Configuration that is refused; the last good one stays in force."""


class ProtocolError(MeshlabError):
    """A peer broke its protocol: answer `status` and close the connection.

    Attributes:
        status: the HTTP status to answer with; 0: close without an answer.
        detail: Envoy's response code detail (`http1.codec_error`), for the access log.
    """

    def __init__(self, what: str, *, status: int = 400, detail: str = "http1.codec_error") -> None:
        self.status = status
        self.detail = detail
        super().__init__(what)


class ClusterError(MeshlabError):
    """The cluster could not be made, reached or brought into the state that was asked for."""
