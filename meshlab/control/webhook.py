"""The HTTPS face of injection and validation: AdmissionReview in, AdmissionReview out."""

import base64
import dataclasses
import json
import logging
import time

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from meshlab.control.inject import InjectSettings, decide, inject, json_patch
from meshlab.control.registry.api import Api, Json
from meshlab.control.registry.store import Store
from meshlab.control.serve.metric import Metrics
from meshlab.control.validate import validate
from meshlab.errors import ConfigError

LOG = logging.getLogger("meshlab.control.webhook")
NATIVE_SINCE = (1, 29)
"""Kubernetes from which native sidecars are on by default."""


async def cluster_version(api: Api) -> tuple[int, int]:
    """Return the API server's (major, minor)."""
    version = await api.call("GET", "/version")
    digits = "".join(c for c in version.get("minor", "0") if c.isdigit())  # "31+" on some clouds
    return int(version.get("major") or 1), int(digits or 0)


class Webhook:
    """The handlers; they look at nothing but the request and the store."""

    def __init__(
        self,
        store: Store,
        settings: InjectSettings,
        metrics: Metrics,
    ) -> None:
        self.store = store
        self.settings = settings
        self.metrics = metrics

    def app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/inject", self._inject, methods=["POST"]),
                Route("/inject/{rest:path}", self._inject, methods=["POST"]),
                Route("/validate", self._validate, methods=["POST"]),
                Route("/ready", _ready),
            ]
        )

    async def _inject(self, request: Request) -> Response:
        began = time.monotonic()
        self.metrics.injections.add()
        review = await request.json()
        answer = self.inject(review["request"])
        self.metrics.injection_time.observe(time.monotonic() - began)
        return JSONResponse(_review(review, answer))

    async def _validate(self, request: Request) -> Response:
        review = await request.json()
        return JSONResponse(_review(review, self.validate(review["request"])))

    def inject(self, request: Json) -> Json:
        """Answer an admission request for a pod."""
        pod, namespace = request["object"], request.get("namespace") or "default"
        held = self.store.objects["namespaces"].get(("", namespace))
        # A namespace may be newer than our watch: the webhook's selector has seen its labels.
        labels = (held["metadata"].get("labels") or {}) if held else None
        decision = decide(pod, namespace, labels, self.settings)
        if not decision.inject:
            self.metrics.skipped.add()
            return {"allowed": True}
        mesh = self.store.mesh
        settings = dataclasses.replace(
            self.settings, trust_domain=mesh.trust_domain, cluster_id=mesh.cluster_id
        )
        try:
            injected = inject(pod, namespace, settings)
        except ConfigError as error:
            self.metrics.injection_failures.add()
            return _refused(str(error))
        self.metrics.injected.add()
        patch = json.dumps(json_patch(pod, injected)).encode()
        return {
            "allowed": True,
            "patchType": "JSONPatch",
            "patch": base64.b64encode(patch).decode(),
        }

    def validate(self, request: Json) -> Json:
        """Answer an admission request for a configuration object, with all its problems."""
        problems = validate(request.get("object") or {})
        if not problems:
            self.metrics.validation_passed.add()
            return {"allowed": True}
        self.metrics.validation_failed.add()
        return _refused("; ".join(problem.render() for problem in problems))


def _refused(message: str) -> Json:
    status = {"code": 400, "reason": "BadRequest", "message": message}
    return {"allowed": False, "status": status}


def _review(review: Json, answer: Json) -> Json:
    return {
        "apiVersion": review.get("apiVersion", "admission.k8s.io/v1"),
        "kind": "AdmissionReview",
        "response": {"uid": review["request"]["uid"], **answer},
    }


async def _ready(request: Request) -> Response:
    del request
    return Response("ready\n")


def native_sidecars(version: tuple[int, int]) -> bool:
    return version >= NATIVE_SINCE
