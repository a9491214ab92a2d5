"""Translated resources, made and serialized once for all the proxies that get the same ones."""

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message


@dataclass(frozen=True, eq=False)  # no slots: bytes and version are made when first asked for
class Resource:
    """One xDS resource."""

    name: str
    message: Message
    """Shared between proxies: never changed after it is made."""

    @cached_property
    def packed(self) -> AnyMessage:
        """The message in an Any, serialized deterministically (maps in key order)."""
        packed = AnyMessage()
        packed.Pack(self.message, deterministic=True)
        return packed

    @property
    def data(self) -> bytes:
        return self.packed.value

    @cached_property
    def version(self) -> str:
        """Changes exactly when the content does."""
        return hashlib.sha256(self.data).hexdigest()[:16]


class Cache:
    """The latest resource per key, with what it was made from.

    An entry holds as long as its inputs compare equal; comparing tuples tries identity first, so
    inputs that stayed the same objects cost nothing.
    """

    def __init__(self, size: int = 60_000) -> None:
        """`size`: entries kept, least recently used dropped first (PILOT_XDS_CACHE_SIZE)."""
        self.size = size
        self._entries: OrderedDict[Hashable, tuple[tuple[Any, ...], Resource]] = OrderedDict()

    def resource(
        self,
        key: Hashable,
        inputs: tuple[Any, ...],
        name: str,
        make: Callable[..., Message],
        *args: Any,
    ) -> Resource:
        """Return the resource; `make(*args)` is called only when `inputs` changed."""
        entry = self._entries.get(key)
        if entry is not None and entry[0] == inputs:
            self._entries.move_to_end(key)
            return entry[1]
        made = Resource(name, make(*args))
        self._entries[key] = (inputs, made)
        self._entries.move_to_end(key)
        if len(self._entries) > self.size:
            self._entries.popitem(last=False)
        return made
