"""How trust starts by itself: the CA's Secret, the root in every namespace, the webhooks' caBundle.

The Secret is created once, whoever comes first; everybody else reads it. The rest is kept as it
should be, level by level, by the replica that leads.
"""

import asyncio
import base64
import datetime as dt
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping

import httpx

from meshlab.control import ca
from meshlab.control.ca import CertificateAuthority
from meshlab.control.registry.api import (
    CONFIG_MAPS,
    SECRETS,
    Api,
    ApiError,
    Json,
    Resource,
)
from meshlab.errors import ConfigError

LOG = logging.getLogger("meshlab.control.bundle")
OWN_SECRET = "istio-ca-secret"  # noqa: S105 - its name
PLUGGED_IN = "cacerts"
ROOT_CONFIG_MAP = "istio-ca-root-cert"
ROOT_KEY = "root-cert.pem"
RETRY = 1.0
"""Seconds after which a write that failed is tried again."""


def _webhooks(plural: str, kind: str) -> Resource:
    return Resource(
        group="admissionregistration.k8s.io",
        version="v1",
        plural=plural,
        kind=kind,
        namespaced=False,
    )


INJECTORS = _webhooks("mutatingwebhookconfigurations", "MutatingWebhookConfiguration")
VALIDATORS = _webhooks("validatingwebhookconfigurations", "ValidatingWebhookConfiguration")


async def authority(api: Api, namespace: str, trust_domain: str) -> CertificateAuthority:
    """Return the mesh's CA: plugged in, ours from before, or new.

    Raises:
        ConfigError: a Secret is there and cannot be used.
    """
    if plugged_in := await api.find(SECRETS, PLUGGED_IN, namespace):
        return _of_secret(plugged_in)
    if own := await api.find(SECRETS, OWN_SECRET, namespace):
        return _of_secret(own)
    fresh = ca.self_signed(trust_domain, now=dt.datetime.now(dt.UTC))
    try:
        await api.create(SECRETS, _secret(fresh, namespace), namespace)
    except ApiError as error:
        if error.status != 409:
            raise
        return _of_secret(await api.get(SECRETS, OWN_SECRET, namespace))  # another was faster
    LOG.info("a new root for trust domain %s", trust_domain)
    return fresh


def _secret(fresh: CertificateAuthority, namespace: str) -> Json:
    data = {"ca-cert.pem": fresh.certificate_pem, "ca-key.pem": fresh.key_pem}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": OWN_SECRET,
            "namespace": namespace,
            "labels": {"app.kubernetes.io/managed-by": "istiod"},
        },
        "type": "istio.io/ca-root",
        "data": {name: base64.b64encode(value).decode() for name, value in data.items()},
    }


def _of_secret(secret: Json) -> CertificateAuthority:
    data = {k: base64.b64decode(v) for k, v in (secret.get("data") or {}).items()}
    name = f"Secret {secret['metadata']['namespace']}/{secret['metadata']['name']}"
    for key in ("ca-cert.pem", "ca-key.pem"):
        if not data.get(key):
            raise ConfigError("is missing", object=name, field=f"data.{key}")
    try:
        return ca.load(
            data["ca-cert.pem"],
            data["ca-key.pem"],
            root=data.get("root-cert.pem", b""),
            chain=data.get("cert-chain.pem", b""),
        )
    except ConfigError as error:
        raise ConfigError(error.what, object=name) from error


class RootKeeper:
    """Keeps ConfigMap `istio-ca-root-cert` in every namespace."""

    def __init__(self, api: Api, root: bytes, namespaces: Callable[[], Mapping[str, Json]]) -> None:
        """`namespaces`: the present ones by name."""
        self.api = api
        self.data = {ROOT_KEY: root.decode()}
        self.namespaces = namespaces
        self.held: dict[str, Json] = {}
        self.changed = asyncio.Event()

    def replace(self, resource: Resource, objects: list[Json]) -> None:
        del resource
        self.held = {obj["metadata"]["namespace"]: obj for obj in objects}
        self.changed.set()

    def change(self, resource: Resource, event: str, obj: Json) -> None:
        del resource
        namespace = obj["metadata"]["namespace"]
        if event == "DELETED":
            self.held.pop(namespace, None)
        else:
            self.held[namespace] = obj
        self.changed.set()

    async def run(self) -> None:
        while True:
            self.changed.clear()
            missing = [name for name in self.namespaces() if self._lacks(name)]
            if await _all(self._write(name) for name in missing):
                await self.changed.wait()
            else:
                await asyncio.sleep(RETRY)

    def _lacks(self, namespace: str) -> bool:
        obj = self.namespaces()[namespace]
        if obj["metadata"].get("deletionTimestamp"):
            return False
        held = self.held.get(namespace)
        return held is None or held.get("data") != self.data

    async def _write(self, namespace: str) -> None:
        if namespace in self.held:
            await self.api.patch(CONFIG_MAPS, ROOT_CONFIG_MAP, {"data": self.data}, namespace)
            return
        meta = {
            "name": ROOT_CONFIG_MAP,
            "namespace": namespace,
            "labels": {"istio.io/config": "true"},
        }
        obj = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": self.data}
        try:
            await self.api.create(CONFIG_MAPS, obj, namespace)
        except ApiError as error:
            if error.status == 404 or error.reason == "Forbidden":
                return  # the namespace has gone, or goes, meanwhile
            if error.status != 409:
                raise
            await self.api.patch(CONFIG_MAPS, ROOT_CONFIG_MAP, {"data": self.data}, namespace)


class WebhookKeeper:
    """Keeps our root in our webhooks, and the validating one strict once we answer."""

    def __init__(self, api: Api, root: bytes, names: Mapping[str, str]) -> None:
        """`names`: resource name → name of our webhook configuration."""
        self.api = api
        self.bundle = base64.b64encode(root).decode()
        self.names = names
        self.held: dict[str, tuple[Resource, Json]] = {}
        self.changed = asyncio.Event()
        self.good = asyncio.Event()
        """Set while every configuration that exists has our root."""

    def replace(self, resource: Resource, objects: list[Json]) -> None:
        self.held.pop(resource.name, None)
        for obj in objects:
            self.change(resource, "MODIFIED", obj)
        self._note()

    def change(self, resource: Resource, event: str, obj: Json) -> None:
        if obj["metadata"]["name"] != self.names[resource.name]:
            return
        if event == "DELETED":
            self.held.pop(resource.name, None)
        else:
            self.held[resource.name] = (resource, obj)
        self._note()

    def _note(self) -> None:
        good = all(_patched(r, obj, self.bundle) is None for r, obj in self.held.values())
        if good:
            self.good.set()
        else:
            self.good.clear()
        self.changed.set()

    async def run(self) -> None:
        while True:
            self.changed.clear()
            writes = [
                (resource, fixed)
                for resource, obj in self.held.values()
                if (fixed := _patched(resource, obj, self.bundle)) is not None
            ]
            if await _all(self._write(resource, fixed) for resource, fixed in writes):
                await self.changed.wait()
            else:
                await asyncio.sleep(RETRY)

    async def _write(self, resource: Resource, fixed: Json) -> None:
        written = await self.api.update(resource, fixed)
        self.change(resource, "MODIFIED", written)


def _patched(resource: Resource, obj: Json, bundle: str) -> Json | None:
    """Return the configuration as it should be; None when it is so."""
    policy = "Fail" if resource == VALIDATORS else None
    hooks = [
        {
            **hook,
            "clientConfig": {**hook["clientConfig"], "caBundle": bundle},
            **({"failurePolicy": policy} if policy else {}),
        }
        for hook in obj.get("webhooks") or ()
    ]
    return None if hooks == obj.get("webhooks") else {**obj, "webhooks": hooks}


async def _all(writes: Iterable[Awaitable[None]]) -> bool:
    """Do the writes; log those that fail and return whether all succeeded."""
    results = await asyncio.gather(*writes, return_exceptions=True)
    good = True
    for result in results:
        if isinstance(result, ApiError | httpx.HTTPError):
            LOG.warning("%s; again in %.0f s", str(result) or type(result).__name__, RETRY)
            good = False
        elif isinstance(result, BaseException):
            raise result
    return good
