"""Read what a route adds to and removes from headers (Envoy `HeaderValueOption`)."""

from collections.abc import Sequence

from envoy.config.core.v3.base_pb2 import HeaderValueOption
from google.protobuf.message import Message

from meshlab.errors import ConfigError
from meshlab.proxy.config.protobuf import join
from meshlab.proxy.core.header_mutation import (
    NO_MUTATION,
    AppendAction,
    HeaderMutation,
    HeaderValue,
)

ACTIONS: dict[int, AppendAction] = {
    HeaderValueOption.APPEND_IF_EXISTS_OR_ADD: "append_if_exists_or_add",
    HeaderValueOption.ADD_IF_ABSENT: "add_if_absent",
    HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD: "overwrite_if_exists_or_add",
    HeaderValueOption.OVERWRITE_IF_EXISTS: "overwrite_if_exists",
}


def compile_header_mutation(message: Message, what: str, path: str) -> HeaderMutation:
    """Return the mutation of `message`'s fields `<what>_headers_to_add` and `…_to_remove`.

    `message` is a route configuration, virtual host, route or cluster share; `what` is `request`
    or `response`.

    Raises:
        ConfigError: a header that may not be touched.
    """
    add_field, remove_field = f"{what}_headers_to_add", f"{what}_headers_to_remove"
    added: Sequence[HeaderValueOption] = getattr(message, add_field)
    removed: Sequence[str] = getattr(message, remove_field)
    if not added and not removed:
        return NO_MUTATION
    return HeaderMutation(
        remove=tuple(
            header_name(name, f"{join(path, remove_field)}[{index}]")
            for index, name in enumerate(removed)
        ),
        add=tuple(
            compile_header_value(option, f"{join(path, add_field)}[{index}]")
            for index, option in enumerate(added)
        ),
    )


def compile_header_value(option: HeaderValueOption, path: str) -> HeaderValue:
    action = ACTIONS.get(option.append_action)
    if action is None:
        raise ConfigError(
            "is unknown", field=join(path, "append_action"), found=str(option.append_action)
        )
    if option.HasField("append"):  # the older form of the same choice
        action = "append_if_exists_or_add" if option.append.value else "overwrite_if_exists_or_add"
    return HeaderValue(
        name=header_name(option.header.key, join(path, "header.key")),
        value=option.header.value,
        action=action,
        keep_empty_value=option.keep_empty_value,
    )


def header_name(name: str, path: str) -> bytes:
    """Return the name in lower case; raises ConfigError for names that routing depends on."""
    lower = name.lower()
    if not lower:
        raise ConfigError("must not be empty", field=path)
    if lower.startswith(":") or lower == "host":
        raise ConfigError(
            "may not be changed by a header mutation",
            field=path,
            found=name,
            fix="Use host_rewrite_literal or prefix_rewrite",
        )
    return lower.encode()
