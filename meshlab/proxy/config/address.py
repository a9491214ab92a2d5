"""Read addresses (Envoy `Address`): an IP address or name with a port, or a unix socket."""

from ipaddress import ip_address

from envoy.config.core.v3.address_pb2 import Address as Message
from envoy.config.core.v3.address_pb2 import SocketAddress

from meshlab.errors import ConfigError
from meshlab.proxy.config.protobuf import join
from meshlab.proxy.core.listener import Address


def compile_address(message: Message, path: str, *, allow_name: bool = False) -> Address:
    """Return the address.

    Raises:
        ConfigError: none, UDP, or a name where none is looked up (`allow_name`).
    """
    kind = message.WhichOneof("address")
    if kind == "pipe":
        return Address(host="", path=message.pipe.path)
    if kind != "socket_address":
        raise ConfigError("must be set", field=path, allowed="socket_address, pipe")
    socket = message.socket_address
    path = join(path, "socket_address")
    if socket.protocol != SocketAddress.TCP:
        raise ConfigError("is not supported", field=join(path, "protocol"), found="UDP")
    if socket.port_value > 65535:
        raise ConfigError(
            "must be at most 65535", field=join(path, "port_value"), found=str(socket.port_value)
        )
    if not allow_name:
        check_ip(socket.address, join(path, "address"))
    return Address(host=socket.address, port=socket.port_value)


def check_ip(text: str, path: str) -> None:
    try:
        ip_address(text)
    except ValueError:
        raise ConfigError(
            "must be an IP address",
            field=path,
            found=repr(text),
            fix="Names are looked up in STRICT_DNS and LOGICAL_DNS clusters only",
        ) from None
