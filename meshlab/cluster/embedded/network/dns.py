"""The cluster's DNS server: answers from the Service index, and at once, also for what is not.

Names follow the Kubernetes DNS specification 1.1: services (A, SRV), headless services (one A a
pod), pods (`10-244-0-5.shop.pod.cluster.local`). The message format is RFC 1035's. There is no
IPv6, so an AAAA question about a name that exists gets an empty answer, not an error; names
outside the cluster do not exist, and clients must not wait for a time-out to learn it.
"""

import asyncio
import ipaddress
import socket
import struct
from dataclasses import dataclass
from typing import Any, cast

from meshlab.cluster.embedded.network.index import ServiceIndex
from meshlab.cluster.embedded.network.ipam import POD_RANGE
from meshlab.errors import ProtocolError

DOMAIN = "cluster.local"
TTL = 5
"""Seconds. Short, since endpoints of headless services come and go."""
UDP_SIZE = 512

A, NS, CNAME, SOA, PTR, AAAA, SRV, ANY = 1, 2, 5, 6, 12, 28, 33, 255
NOERROR, FORMERR, NXDOMAIN, NOTIMP = 0, 1, 3, 4
IN = 1
HEADER = struct.Struct("!6H")
QUERY_OR_OPCODE = 0xF800
RECURSION_DESIRED = 0x0100
RESPONSE, AUTHORITATIVE, TRUNCATED, RECURSION_AVAILABLE = 0x8000, 0x0400, 0x0200, 0x0080


@dataclass(frozen=True, slots=True)
class Record:
    """One resource record; `data` is an address (A), a name (CNAME) or a port and a name (SRV)."""

    name: str
    type: int
    data: str
    port: int = 0


def encode_name(name: str) -> bytes:
    labels = [label.encode("idna") if label else b"" for label in name.split(".")]
    return b"".join(bytes([len(label)]) + label for label in labels if label) + b"\0"


def decode_name(message: bytes, offset: int) -> tuple[str, int]:
    """Return the name of a question, in lower case without the last dot, and where it ends.

    Raises:
        ProtocolError: it is cut off, or compressed, which a question's name never is.
    """
    labels: list[str] = []
    while True:
        if offset >= len(message):
            raise ProtocolError("the question's name is cut off")
        size = message[offset]
        offset += 1
        if not size:
            return ".".join(labels).lower(), offset
        if size > 63 or offset + size > len(message):
            raise ProtocolError(f"a label of {size} bytes in the question's name")
        labels.append(message[offset : offset + size].decode("ascii", "replace"))
        offset += size


def encode_record(record: Record) -> bytes:
    match record.type:
        case 1:  # A
            data = ipaddress.IPv4Address(record.data).packed
        case 33:  # SRV: priority, weight, port, target
            data = struct.pack("!3H", 0, 100, record.port) + encode_name(record.data)
        case _:
            data = encode_name(record.data)
    head = encode_name(record.name) + struct.pack("!HHIH", record.type, IN, TTL, len(data))
    return head + data


def encode_soa() -> bytes:
    """Return the record that says how long "no such name" may be remembered (RFC 2308)."""
    names = encode_name(f"ns.dns.{DOMAIN}") + encode_name(f"hostmaster.{DOMAIN}")
    data = names + struct.pack("!5I", 1, 7200, 1800, 86400, TTL)
    return encode_name(DOMAIN) + struct.pack("!HHIH", SOA, IN, TTL, len(data)) + data


def answer(query: bytes, index: ServiceIndex, *, limit: int = 65535) -> bytes:
    """Return the answer to one message, b"" for what is no query.

    Args:
        query: the message.
        index: what there is.
        limit: bytes; a longer answer is left out and marked as truncated (TC).
    """
    if len(query) < HEADER.size:
        return b""
    identity, flags, questions, *_ = HEADER.unpack_from(query)
    if flags & RESPONSE:
        return b""
    base = RESPONSE | AUTHORITATIVE | RECURSION_AVAILABLE | flags & RECURSION_DESIRED
    if flags & QUERY_OR_OPCODE or questions != 1:
        return HEADER.pack(identity, base | NOTIMP, 0, 0, 0, 0)
    try:
        name, end = decode_name(query, HEADER.size)
        kind, _ = struct.unpack_from("!HH", query, end)
    except (ProtocolError, struct.error):
        return HEADER.pack(identity, base | FORMERR, 0, 0, 0, 0)
    question = query[HEADER.size : end + 4]
    records = look_up(name, index)
    code = NXDOMAIN if records is None else NOERROR
    found = [record for record in records or [] if record.type in {kind, CNAME} or kind == ANY]
    extra = [r for srv in found if srv.type == SRV for r in look_up(srv.data, index) or []]
    body = b"".join(encode_record(record) for record in (*found, *extra))
    authority = b"" if found else encode_soa()
    counts = (1, len(found), 0 if found else 1, len(extra))
    message = HEADER.pack(identity, base | code, *counts) + question + body + authority
    if len(message) > limit:
        return HEADER.pack(identity, base | TRUNCATED, 1, 0, 0, 0) + question
    return message


def look_up(name: str, index: ServiceIndex) -> list[Record] | None:
    """Return all records of a name; [] where it exists and has none; None where it does not."""
    if name == DOMAIN:
        return []
    if not name.endswith("." + DOMAIN):
        return None
    match name.removesuffix("." + DOMAIN).split("."):
        case ["svc" | "pod"]:
            return []
        case [namespace, "svc" | "pod"]:
            known = any(key[0] == namespace for key in index.services)
            return [] if known else None
        case [dashed, _, "pod"]:
            return pod_records(name, dashed)
        case [service, namespace, "svc"]:
            return service_records(name, (namespace, service), index)
        case [hostname, service, namespace, "svc"] if not hostname.startswith("_"):
            return hostname_records(name, hostname, (namespace, service), index)
        case [port, protocol, service, namespace, "svc"]:
            return srv_records(name, port, protocol, (namespace, service), index)
        case _:
            return None


def pod_records(name: str, dashed: str) -> list[Record] | None:
    try:
        address = ipaddress.IPv4Address(dashed.replace("-", "."))
    except ValueError:
        return None
    return [Record(name, A, str(address))] if address in POD_RANGE else None


def service_records(name: str, key: tuple[str, str], index: ServiceIndex) -> list[Record] | None:
    service = index.services.get(key)
    if service is None:
        return None
    spec = service["spec"]
    if spec.get("type") == "ExternalName":
        return [Record(name, CNAME, spec["externalName"])]
    if spec.get("clusterIP") not in {None, "", "None"}:
        return [Record(name, A, spec["clusterIP"])]
    addresses = [address for _, _, address in headless_endpoints(key, index)]
    return [Record(name, A, address) for address in dict.fromkeys(addresses)]


def headless_endpoints(
    key: tuple[str, str], index: ServiceIndex
) -> list[tuple[dict[str, Any], str, str]]:
    """Return (slice, host name, address) of a headless service's endpoints that may be shown."""
    unready_too = index.services[key]["spec"].get("publishNotReadyAddresses")
    return [
        (piece, endpoint.get("hostname") or address.replace(".", "-"), address)
        for piece in index.slices_of(key)
        for endpoint in piece.get("endpoints") or []
        if unready_too or endpoint.get("conditions", {}).get("ready", True)
        for address in endpoint.get("addresses") or []
    ]


def hostname_records(
    name: str, hostname: str, key: tuple[str, str], index: ServiceIndex
) -> list[Record] | None:
    service = index.services.get(key)
    if service is None or service["spec"].get("clusterIP") != "None":
        return None
    found = [address for _, host, address in headless_endpoints(key, index) if host == hostname]
    return [Record(name, A, address) for address in found] or None


def srv_records(
    name: str, port: str, protocol: str, key: tuple[str, str], index: ServiceIndex
) -> list[Record] | None:
    service = index.services.get(key)
    if service is None:
        return None
    host = f"{key[1]}.{key[0]}.svc.{DOMAIN}"
    wanted = [
        entry
        for entry in service["spec"].get("ports") or []
        if f"_{entry.get('name')}" == port
        and f"_{entry.get('protocol', 'TCP').lower()}" == protocol
    ]
    if not wanted:
        return None
    if service["spec"].get("clusterIP") != "None":
        return [Record(name, SRV, host, entry["port"]) for entry in wanted]
    return [
        Record(name, SRV, f"{hostname}.{host}", target["port"])
        for entry in wanted
        for piece, hostname, _ in headless_endpoints(key, index)
        for target in piece.get("ports") or []
        if target.get("name") == entry.get("name")
    ]


class UdpServer(asyncio.DatagramProtocol):
    def __init__(self, index: ServiceIndex) -> None:
        self.index = index

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports keep the protocol but are not asyncio's classes
        self.transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        if message := answer(data, self.index, limit=UDP_SIZE):
            self.transport.sendto(message, addr)


async def serve_tcp(
    index: ServiceIndex, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    """Answer one connection's questions, each with its length before it (RFC 1035 §4.2.2)."""
    try:
        while True:
            size = int.from_bytes(await reader.readexactly(2), "big")
            message = answer(await reader.readexactly(size), index)
            writer.write(len(message).to_bytes(2, "big") + message)
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        pass  # the client is done
    finally:
        writer.close()


async def start(index: ServiceIndex, address: str, port: int = 53) -> asyncio.Server:
    """Serve both transports on `address`, in the calling thread's network namespace."""
    loop = asyncio.get_running_loop()
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.setblocking(False)
    udp.bind((address, port))
    await loop.create_datagram_endpoint(lambda: UdpServer(index), sock=udp)
    tcp = socket.create_server((address, udp.getsockname()[1]))
    return await asyncio.start_server(
        lambda reader, writer: serve_tcp(index, reader, writer), sock=tcp
    )
