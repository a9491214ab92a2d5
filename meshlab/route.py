"""A VirtualService in one readable line: `ns.route("bluegreen").split(blue=20, green=80)`.

Pure: each step returns a new builder, `manifest` is the object, `yaml` its text. One that starts
from a VirtualService in the cluster changes only what its steps name.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from meshlab.change import Changes, bare, to_yaml
from meshlab.errors import ConfigError

API_VERSION = "networking.istio.io/v1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """One entry of `http[].match`; all of its parts must hold."""

    headers: Mapping[str, str]
    prefix: str = ""
    method: str = ""

    def manifest(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        if self.prefix:
            found["uri"] = {"prefix": self.prefix}
        if self.method:
            found["method"] = {"exact": self.method}
        if self.headers:
            found["headers"] = {name: {"exact": value} for name, value in self.headers.items()}
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One entry of `http`."""

    weights: Mapping[str, int]
    match: Match | None = None
    settings: Mapping[str, Any] | None = None
    """`retries`, `timeout`, `fault` as in the manifest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """A VirtualService being built.

    Attributes:
        host: what clients call: a Service's name, or a host name that a Gateway takes.
        name: the object's name.
        gateways: Gateways that it applies to; none: the sidecars.
        subsets_of: Service whose subsets `split` names; "": it names Services.
    """

    host: str
    name: str
    namespace: str
    gateways: Sequence[str] = ()
    prefix: str = ""
    port: int | None = None
    subsets_of: str = ""
    rules: tuple[Rule, ...] = ()
    pending: Match | None = None
    settings: Mapping[str, Any] | None = None
    existing: Mapping[str, Any] | None = None
    """The VirtualService to start from."""
    applier: Callable[["Route"], Changes] | None = field(default=None, repr=False, compare=False)

    def through(self, *gateways: str) -> "Route":
        """Apply at these Gateways (`mesh` is the word for all sidecars)."""
        return replace(self, gateways=gateways)

    def path(self, prefix: str) -> "Route":
        """Only requests whose path begins so."""
        return replace(self, prefix=prefix)

    def subsets(self, service: str) -> "Route":
        """Let `split` name subsets of this Service, as its DestinationRule defines them."""
        return replace(self, subsets_of=service)

    def when(
        self, *, header: Mapping[str, str] | None = None, prefix: str = "", method: str = ""
    ) -> "Route":
        """Let the next `split` hold only for requests like this, ahead of one for everybody."""
        return replace(
            self, pending=Match(headers=header or {}, prefix=prefix or self.prefix, method=method)
        )

    def split(self, **weights: int) -> "Route":
        """Send these shares to Services (or subsets), in percent.

        Raises:
            ConfigError: they do not add up to 100.
        """
        total = sum(weights.values())
        if total != 100 or any(weight < 0 for weight in weights.values()):
            raise ConfigError(
                "weights are shares of one whole",
                object=f"VirtualService {self.namespace}/{self.name}",
                field=f"spec.http[{len(self.rules)}].route",
                found=", ".join(f"{name}={weight}" for name, weight in weights.items()),
                allowed="numbers from 0 that add up to 100",
                fix=f"They add up to {total}.",
            )
        rule = Rule(weights=weights, match=self._match(), settings=self.settings)
        return replace(self, rules=(*self.rules, rule), pending=None, settings=None)

    def to(self, destination: str) -> "Route":
        """Send everything to one Service (or subset)."""
        return self.split(**{destination: 100})

    def retries(
        self,
        attempts: int,
        *,
        per_try_timeout: str | None = None,
        retry_on: str | None = None,
    ) -> "Route":
        """Set the retries of the last rule (of the next, where there is none yet)."""
        policy: dict[str, Any] = {"attempts": attempts}
        if per_try_timeout:
            policy["perTryTimeout"] = per_try_timeout
        if retry_on:
            policy["retryOn"] = retry_on
        return self._set(retries=policy)

    def timeout(self, duration: str) -> "Route":
        """Set the timeout of the last rule (`"2s"`)."""
        return self._set(timeout=duration)

    def fault(self, **fault: Any) -> "Route":
        """Set `fault` of the last rule, as in the manifest (`abort={…}`, `delay={…}`)."""
        return self._set(fault=fault)

    def _set(self, **settings: Any) -> "Route":
        if not self.rules:
            return replace(self, settings={**(self.settings or {}), **settings})
        last = self.rules[-1]
        changed = replace(last, settings={**(last.settings or {}), **settings})
        return replace(self, rules=(*self.rules[:-1], changed))

    def _match(self) -> Match | None:
        if self.pending is None and self.prefix:
            return Match(headers={}, prefix=self.prefix)
        return self.pending

    @property
    def manifest(self) -> dict[str, Any]:
        """Return the VirtualService."""
        if self.existing is not None:
            return self._changed(bare(self.existing))
        spec: dict[str, Any] = {"hosts": [self.host]}
        if self.gateways:
            spec["gateways"] = list(self.gateways)
        # The first match wins: behind a rule for everybody a condition would never be asked.
        rules = sorted(self.rules, key=self._for_everybody)
        spec["http"] = [self._entry(rule, None) for rule in rules]
        return {
            "apiVersion": API_VERSION,
            "kind": "VirtualService",
            "metadata": {"name": self.name, "namespace": self.namespace},
            "spec": spec,
        }

    def _for_everybody(self, rule: Rule) -> bool:
        match = rule.match
        return match is None or not (match.headers or match.method or match.prefix != self.prefix)

    @property
    def yaml(self) -> str:
        return to_yaml(self.manifest)

    def apply(self) -> Changes:
        """Apply it; shows the YAML, what changed, and when the proxies had it."""
        if self.applier is None:
            raise ConfigError(
                "belongs to no cluster", object=f"Route {self.name}", fix="Use namespace.route()."
            )
        return self.applier(self)

    def __repr__(self) -> str:
        return self.yaml

    def _changed(self, obj: dict[str, Any]) -> dict[str, Any]:
        """Return the VirtualService with the rules that were named put in their places.

        A rule with a condition goes to the one with the same condition, else before all others;
        one without goes to the last rule, which keeps its own match and settings.
        """
        entries = [dict(entry) for entry in obj["spec"].get("http") or ()]
        for rule in self.rules:
            place = _place(rule, entries)
            if place is None:
                entries.insert(0, self._entry(rule, entries[-1] if entries else None))
                continue
            old = entries[place]
            kept = {"match": old["match"]} if "match" in old else {}
            entries[place] = {**old, **self._entry(rule, old), **kept}
        if self.settings and entries:
            entries[-1] |= self.settings
        spec = {**obj["spec"], "http": entries}
        if self.gateways:
            spec["gateways"] = list(self.gateways)
        return {**obj, "spec": spec}

    def _entry(self, rule: Rule, old: Mapping[str, Any] | None) -> dict[str, Any]:
        """Return the `http` entry of a rule; ports and subsets are spelled as in the `old` one."""
        entry: dict[str, Any] = {}
        match = rule.match.manifest() if rule.match else {}
        if match:
            entry["match"] = [match]
        alone = len(rule.weights) == 1
        entry["route"] = [
            {"destination": self._destination(name, old)} | ({} if alone else {"weight": weight})
            for name, weight in rule.weights.items()
        ]
        return entry | dict(rule.settings or {})

    def _destination(self, name: str, old: Mapping[str, Any] | None) -> dict[str, Any]:
        before = [route["destination"] for route in (old or {}).get("route") or ()]
        hosts = {d["host"] for d in before}
        by_subset = len(hosts) == 1 and all(d.get("subset") for d in before)
        service = self.subsets_of or (hosts.pop() if by_subset else "")
        found: dict[str, Any] = {"host": service or name}
        if service:
            found["subset"] = name
        ports = [d.get("port") for d in before]
        if self.port:
            found["port"] = {"number": self.port}
        elif ports and ports[0] and all(port == ports[0] for port in ports):
            found["port"] = ports[0]
        return found


def _place(rule: Rule, entries: Sequence[Mapping[str, Any]]) -> int | None:
    """Return which of the `http` entries a rule replaces; None: it is new, and goes first."""
    match = rule.match.manifest() if rule.match else {}
    if not match:
        return len(entries) - 1 if entries else None
    return next((n for n, entry in enumerate(entries) if entry.get("match") == [match]), None)
