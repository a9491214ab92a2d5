"""Which part of the control plane gets which, in one page; and the order in which they start."""

import asyncio
import contextlib
import datetime as dt
import logging
import signal
import socket
import ssl
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from meshlab.control import bundle
from meshlab.control.bundle import RootKeeper, WebhookKeeper
from meshlab.control.ca import CertificateAuthority
from meshlab.control.inject import InjectSettings
from meshlab.control.leader import Leader
from meshlab.control.registry.api import (
    CONFIG_MAPS,
    Api,
    from_kubeconfig,
    in_cluster,
    load_key_pair,
)
from meshlab.control.registry.mesh import CONFIG_MAP
from meshlab.control.registry.store import WATCHED, Store
from meshlab.control.registry.watch import Watch
from meshlab.control.serve.access_log import AccessLogSink
from meshlab.control.serve.ads import AdsService
from meshlab.control.serve.auth import Authenticator
from meshlab.control.serve.csr import CertificateService
from meshlab.control.serve.debug import Debug
from meshlab.control.serve.http import listen, serve
from meshlab.control.serve.metric import Metrics
from meshlab.control.serve.push import Pusher
from meshlab.control.snapshot import Mesh
from meshlab.control.translate.cache import Cache
from meshlab.control.webhook import Webhook, cluster_version, native_sidecars

LOG = logging.getLogger("meshlab.control")
SERVING_LIFETIME = dt.timedelta(days=1)
INJECTOR = "istio-sidecar-injector"
LEASE = "istio-leader"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the control plane is told; "" for an address switches that face off."""

    kubeconfig: Path | None = None
    """None: the pod's service account."""
    context: str = ""
    namespace: str = "istio-system"
    identity: str = field(default_factory=socket.gethostname)
    """Name in the leader's lease: the pod's."""
    secure: str = ":15012"
    """ADS, certificates and access logs over TLS, with tokens."""
    plaintext: str = ""
    """ADS and access logs in plain text, every node believed: outside clusters only."""
    webhook: str = ":15017"
    debug: str = ":15014"
    trust_domain: str = "cluster.local"
    cluster_domain: str = "cluster.local"
    inject: InjectSettings = field(default_factory=InjectSettings)

    @property
    def manages(self) -> bool:
        """Whether this is the mesh's istiod, which keeps trust and webhooks, or a looker-on."""
        return bool(self.secure)

    @property
    def dns_names(self) -> list[str]:
        """What the Service is called; the names in the serving certificate."""
        name = f"istiod.{self.namespace}"
        return [f"{name}.svc", name, "istiod", f"{name}.svc.{self.cluster_domain}"]


class ControlPlane:
    """One replica."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        access = (
            from_kubeconfig(settings.kubeconfig, settings.context)
            if settings.kubeconfig
            else in_cluster()
        )
        self.api = Api(access)
        self.metrics = Metrics()
        self.metrics.info.set(1, version=metadata.version("meshlab"))
        defaults = Mesh(
            trust_domain=settings.trust_domain,
            cluster_domain=settings.cluster_domain,
            root_namespace=settings.namespace,
        )
        self.ads = AdsService(Cache(), self.metrics)
        self.store = Store(defaults, self._changed)
        self.pusher = Pusher(self.store, self.metrics, self.ads.connections)
        self.ads.latest = lambda: self.pusher.latest
        self.sink = AccessLogSink()
        self.authenticator = Authenticator(self.api)
        self.missing = {"the cluster's objects": True}
        """What readiness still waits for."""
        self._keepers: list[RootKeeper | WebhookKeeper] = []

    async def run(self) -> None:
        """Run until cancelled."""
        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_callback(self.api.close)
            tasks = await stack.enter_async_context(asyncio.TaskGroup())
            debug = Debug(
                self.store, self.pusher, self.ads, self.sink, self.metrics, self.not_ready
            )
            if self.settings.debug:
                tasks.create_task(serve(debug.app(), listen(self.settings.debug)))
            synced = self._watch(tasks)
            authority = None
            if self.settings.manages:
                authority = await self._authority()
            await asyncio.gather(*(watch.synced.wait() for watch in synced))
            self.pusher.publish(time.monotonic())
            tasks.create_task(self.pusher.run())
            if authority is not None:
                await self._manage(tasks, stack, authority)
            if self.settings.plaintext:
                await stack.enter_async_context(self._plaintext())
            self.missing.clear()
            LOG.info("serving")
            await asyncio.Event().wait()

    def not_ready(self) -> str:
        """Return what readiness waits for; "" when nothing is missing."""
        if self.missing:
            return f"waiting for {', '.join(self.missing)}"
        for keeper in self._keepers:
            if isinstance(keeper, WebhookKeeper) and not keeper.good.is_set():
                return "waiting for our root in the webhooks"
        return ""

    def _changed(self) -> None:
        self.pusher.notify()
        for keeper in self._keepers:
            keeper.changed.set()

    def _watch(self, tasks: asyncio.TaskGroup) -> list[Watch]:
        def changed(resource: Any, event: str, obj: Any) -> None:
            self.metrics.inbound.add(type=resource.plural)
            self.store.change(resource, event, obj)

        watches = [
            Watch(self.api, resources, replace=self.store.replace, change=changed)
            for resources in WATCHED
        ]
        watches.append(
            Watch(
                self.api,
                (CONFIG_MAPS,),
                replace=lambda _, objects: self.store.set_mesh(objects[0] if objects else None),
                change=lambda _, event, obj: self.store.set_mesh(
                    None if event == "DELETED" else obj
                ),
                namespace=self.settings.namespace,
                name=CONFIG_MAP,
            )
        )
        for watch in watches:
            tasks.create_task(watch.run())
        return watches

    async def _authority(self) -> CertificateAuthority:
        domain = self.settings.trust_domain
        authority = await bundle.authority(self.api, self.settings.namespace, domain)
        expiry = authority.root.not_valid_after_utc.timestamp()
        self.metrics.root_expiry.set(expiry)
        return authority

    async def _manage(
        self,
        tasks: asyncio.TaskGroup,
        stack: contextlib.AsyncExitStack,
        authority: CertificateAuthority,
    ) -> None:
        """Start what only the mesh's own istiod does."""
        await stack.enter_async_context(self._secure(authority))
        if self.settings.webhook:
            native = native_sidecars(await cluster_version(self.api))
            inject = replace(self.settings.inject, native=native)
            webhook = Webhook(self.store, inject, self.metrics)
            tls = self._webhook_context(authority)
            tasks.create_task(_renew(tls, authority, self.settings.dns_names))
            tasks.create_task(serve(webhook.app(), listen(self.settings.webhook), tls))
        roots = RootKeeper(
            self.api,
            authority.root_pem,
            lambda: {name: n for (_, name), n in self.store.objects["namespaces"].items()},
        )
        names = {
            bundle.INJECTORS.name: INJECTOR,
            bundle.VALIDATORS.name: f"istio-validator-{self.settings.namespace}",
        }
        hooks = WebhookKeeper(self.api, authority.root_pem, names)
        watches = [
            Watch(
                self.api,
                (CONFIG_MAPS,),
                replace=roots.replace,
                change=roots.change,
                name=bundle.ROOT_CONFIG_MAP,
            )
        ] + [
            Watch(self.api, (r,), replace=hooks.replace, change=hooks.change, name=names[r.name])
            for r in (bundle.INJECTORS, bundle.VALIDATORS)
        ]
        for watch in watches:
            tasks.create_task(watch.run())
        await asyncio.gather(*(watch.synced.wait() for watch in watches))
        self._keepers += [roots, hooks]
        leader = Leader(self.api, LEASE, self.settings.namespace, self.settings.identity)
        stack.push_async_callback(leader.release)
        tasks.create_task(leader.run(self._write))

    async def _write(self) -> None:
        """Do what the leading replica does."""
        async with asyncio.TaskGroup() as tasks:
            for keeper in self._keepers:
                tasks.create_task(keeper.run())

    @contextlib.asynccontextmanager
    async def _secure(self, authority: CertificateAuthority) -> AsyncIterator[None]:
        """Serve ADS, certificates and access logs with TLS."""
        certificates = CertificateService(
            authority,
            self.authenticator,
            lambda: self.store.mesh.trust_domain,
            self.metrics,
        )
        server = grpc.aio.server(options=_OPTIONS)
        server.add_generic_rpc_handlers(
            (
                self.ads.handler(self.authenticator),
                self.sink.handler(self.authenticator),
                certificates.handler(),
            )
        )
        server.add_secure_port(
            _any(self.settings.secure), _credentials(authority, self.settings.dns_names)
        )
        await server.start()
        try:
            yield
        finally:
            await server.stop(grace=0.1)

    @contextlib.asynccontextmanager
    async def _plaintext(self) -> AsyncIterator[None]:
        server = grpc.aio.server(options=_OPTIONS)
        server.add_generic_rpc_handlers((self.ads.handler(None), self.sink.handler(None)))
        if not server.add_insecure_port(_any(self.settings.plaintext)):
            raise OSError(f"cannot listen on {self.settings.plaintext}")
        await server.start()
        try:
            yield
        finally:
            await server.stop(grace=0.1)

    def _webhook_context(self, authority: CertificateAuthority) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        pair = authority.serving(self.settings.dns_names, now=dt.datetime.now(dt.UTC))
        load_key_pair(context, pair.chain, pair.key)
        return context


_OPTIONS = [
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
]


def _any(address: str) -> str:
    return f"0.0.0.0{address}" if address.startswith(":") else address  # noqa: S104 - a Service's port


def _credentials(authority: CertificateAuthority, names: list[str]) -> Any:
    """Return gRPC credentials that renew the serving certificate at half of its life."""
    renewed_at = time.monotonic()

    def configuration() -> Any:
        pair = authority.serving(names, now=dt.datetime.now(dt.UTC), lifetime=SERVING_LIFETIME)
        return grpc.ssl_server_certificate_configuration([(pair.key, pair.chain)])

    def fetch() -> Any:
        nonlocal renewed_at
        if time.monotonic() - renewed_at < SERVING_LIFETIME.total_seconds() / 2:
            return None  # unchanged
        renewed_at = time.monotonic()
        return configuration()

    return grpc.dynamic_ssl_server_credentials(
        configuration(), fetch, require_client_authentication=False
    )


async def _renew(
    context: ssl.SSLContext, authority: CertificateAuthority, names: list[str]
) -> None:
    """Give a context a fresh certificate at half of each one's life."""
    while True:
        await asyncio.sleep(SERVING_LIFETIME.total_seconds() / 2)
        pair = authority.serving(names, now=dt.datetime.now(dt.UTC), lifetime=SERVING_LIFETIME)
        load_key_pair(context, pair.chain, pair.key)


async def run(settings: Settings) -> int:
    """Run until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    running = asyncio.ensure_future(ControlPlane(settings).run())
    stopping = asyncio.ensure_future(stop.wait())
    await asyncio.wait([running, stopping], return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if running.done():
        running.result()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    return 0


def from_environment(environ: Mapping[str, str], given: Mapping[str, Any]) -> Settings:
    """Return settings: flags first, then the pod's environment, then Istio's defaults."""
    namespace = given.get("namespace") or environ.get("POD_NAMESPACE") or "istio-system"
    trust_domain = given.get("trust_domain") or environ.get("TRUST_DOMAIN") or "cluster.local"
    cluster_domain = given.get("cluster_domain") or "cluster.local"
    defaults = InjectSettings()
    inject = InjectSettings(
        image=environ.get("PROXY_IMAGE") or defaults.image,
        data_plane=environ.get("MESHLAB_DATAPLANE") or defaults.data_plane,
        discovery_address=f"istiod.{namespace}.svc:15012",
        trust_domain=trust_domain,
        cluster_domain=cluster_domain,
        root_namespace=namespace,
    )
    named = {
        "namespace": namespace,
        "trust_domain": trust_domain,
        "cluster_domain": cluster_domain,
        "identity": environ.get("POD_NAME") or socket.gethostname(),
        "inject": inject,
    }
    return Settings(**{**given, **named})
