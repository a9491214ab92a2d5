"""Fields of Istio's that the mesh does not do yet: refused at apply, each by its path.

To accept them silently would be worse: the object would look applied and do nothing.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from meshlab.api.field import Problems, child, item

# `[]` stands for each element of a list. A value of () refuses the field whatever it says,
# others name the values that say no more than leaving it out.
Table = Mapping[str, tuple[Any, ...]]

_OFF = (False,)
_ZERO = (0,)

_POLICY: Table = {
    "loadBalancer.consistentHash": (),
    "loadBalancer.localityLbSetting": (),
    "loadBalancer.warmupDurationSecs": (),
    "loadBalancer.warmup": (),
    "loadBalancer.zoneAwareLbSetting": (),
    "connectionPool.tcp.idleTimeout": (),
    "connectionPool.http.h2UpgradePolicy": ("DEFAULT", "DO_NOT_UPGRADE"),
    "connectionPool.http.useClientProtocol": _OFF,
    "connectionPool.http.maxConcurrentStreams": _ZERO,
    "connectionPool.http.http2KeepAlive": (),
    "outlierDetection.outlierDetectionHttpErrorCodes": (),
    "tls.credentialName": ("",),
    "tunnel": (),
    "proxyProtocol": (),
    "retryBudget": (),
}

TABLES: Mapping[str, Table] = {
    "VirtualService": {
        "tls": (),
        "tcp": (),
        "http[].delegate": (),
        "http[].mirror": (),
        "http[].mirrors": (),
        "http[].mirrorPercent": (),
        "http[].mirror_percent": (),
        "http[].mirrorPercentage": (),
        "http[].corsPolicy": (),
        "http[].retries.retryRemoteLocalities": _OFF,
        "http[].match[].statPrefix": ("",),
    },
    "DestinationRule": {
        "workloadSelector": (),
        **{
            f"{place}.{path}": neutral
            for place in (
                "trafficPolicy",
                "trafficPolicy.portLevelSettings[]",
                "subsets[].trafficPolicy",
                "subsets[].trafficPolicy.portLevelSettings[]",
            )
            for path, neutral in _POLICY.items()
        },
    },
    "Gateway": {"servers[].tls": (), "servers[].defaultEndpoint": ("",)},
    "PeerAuthentication": {},
}


def refuse_unsupported(problems: Problems, kind: str, spec: Mapping[str, Any]) -> None:
    """Note each field of a spec, as it was written, that is set and not done yet."""
    for pattern, neutral in TABLES[kind].items():
        for path, value in _find(spec, pattern.split("."), "spec"):
            # An empty list or block says nothing, so there is nothing to refuse.
            if value not in (None, [], {}) and value not in neutral:
                problems.refuse(path, "is not supported yet", value, "", "Remove it")


def _find(value: Any, parts: Sequence[str], path: str) -> Iterator[tuple[str, Any]]:
    """Return every place that a pattern's parts lead to, with its path and value."""
    if not parts:
        yield path, value
        return
    name, many = parts[0].removesuffix("[]"), parts[0].endswith("[]")
    if not isinstance(value, Mapping) or name not in value:
        return
    place, here = child(path, name), value[name]
    if not many:
        yield from _find(here, parts[1:], place)
    elif isinstance(here, Sequence):
        for i, each in enumerate(here):
            yield from _find(each, parts[1:], item(place, i))
