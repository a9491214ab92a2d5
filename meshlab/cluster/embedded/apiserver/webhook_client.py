"""Asks one admission webhook: finds its endpoint, checks its certificate, keeps its deadline.

A Service is reached at one of its ready endpoints directly; the certificate must be for the
Service's name (`istiod.istio-system.svc`), signed by the configuration's caBundle.
"""

import asyncio
import base64
import json
import logging
import random
import ssl
from functools import lru_cache
from typing import Any

from meshlab.cluster.embedded.apiserver.json_object import at, encode
from meshlab.cluster.embedded.apiserver.store import Store

Json = dict[str, Any]

SLICES = "endpointslices.discovery.k8s.io"
LARGEST_ANSWER = 3 * 1024 * 1024


class WebhookClient:
    """Sends AdmissionReviews."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._dice = random.Random()

    async def ask(self, webhook: Json, review: Json) -> Json:
        """Return the webhook's AdmissionReview.

        Raises:
            OSError: it cannot be reached, or not in time.
            ValueError: what it says is no AdmissionReview.
        """
        import httpx

        logging.getLogger("httpx").setLevel(logging.WARNING)  # else a line for each request
        url, host, address = self._target(webhook["clientConfig"])
        seconds = webhook["timeoutSeconds"]
        context = trusting(webhook["clientConfig"].get("caBundle", ""))
        shown = f'failed to call webhook: Post "{url}?timeout={seconds}s"'
        try:
            async with asyncio.timeout(seconds):
                async with httpx.AsyncClient(
                    verify=context, timeout=seconds, trust_env=False
                ) as client:
                    answer = await client.post(
                        address,
                        params={"timeout": f"{seconds}s"},
                        content=encode(review),
                        headers={"host": host, "content-type": "application/json"},
                        extensions={"sni_hostname": host.partition(":")[0]},
                    )
        except TimeoutError as error:
            raise OSError(f"{shown}: context deadline exceeded") from error
        except httpx.HTTPError as error:
            raise OSError(f"{shown}: {error}") from error
        if answer.status_code != 200:
            raise ValueError(f"{shown}: status {answer.status_code}: {answer.text[:200]}")
        if len(answer.content) > LARGEST_ANSWER:
            raise ValueError(f"{shown}: the answer is larger than {LARGEST_ANSWER} bytes")
        found = json.loads(answer.content)
        if not isinstance(found, dict):
            raise ValueError(f"{shown}: the answer is no JSON object")
        return found

    def _target(self, config: Json) -> tuple[str, str, str]:
        """Return the URL as configured, the host name to verify, and the URL to dial."""
        if config.get("url"):
            import httpx

            url = httpx.URL(config["url"])
            return config["url"], url.netloc.decode(), config["url"]
        service = config["service"]
        host = f"{service['name']}.{service['namespace']}.svc"
        path = service.get("path", "/")
        path = path if path.startswith("/") else f"/{path}"
        port = service.get("port", 443)
        ip, number = self.endpoint(service["namespace"], service["name"], port)
        return f"https://{host}:{port}{path}", f"{host}:{port}", f"https://{ip}:{number}{path}"

    def endpoint(self, namespace: str, name: str, port: int | str) -> tuple[str, int]:
        """Return address and port of a ready endpoint of a Service.

        Raises:
            OSError: there is no such Service, port or endpoint.
        """
        service = self._store.get("services", namespace, name)
        if service is None:
            raise OSError(f'service "{name}" not found')
        ports = service["spec"].get("ports") or ()
        wanted = next((p for p in ports if port in (p["port"], p.get("name"))), None)
        if wanted is None:
            raise OSError(f'service "{name}" has no port {port}')
        found: list[tuple[str, int]] = []
        for piece in self._store.list(SLICES, namespace):
            if at(piece, "metadata", "labels", "kubernetes.io/service-name") != name:
                continue
            number = next(
                (p["port"] for p in piece["ports"] if p["name"] == wanted.get("name", "")), None
            )
            found += [
                (endpoint["addresses"][0], number)
                for endpoint in piece["endpoints"]
                if number and at(endpoint, "conditions", "ready", default=True)
            ]
        if not found:
            raise OSError(f'no endpoints available for service "{name}"')
        return self._dice.choice(found)


@lru_cache(maxsize=32)
def trusting(ca_bundle: str) -> ssl.SSLContext:
    """Return a context that trusts a bundle (base64 of PEM) and nothing else.

    Raises:
        ValueError: the bundle holds no certificate.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if not ca_bundle:
        context.load_default_certs()
        return context
    try:
        context.load_verify_locations(cadata=base64.b64decode(ca_bundle).decode())
    except (ssl.SSLError, UnicodeDecodeError) as error:
        raise ValueError(f"its caBundle cannot be read: {error}") from error
    return context
