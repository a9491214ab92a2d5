"""Which of a DestinationRule's policies holds for a port and subset."""

from dataclasses import dataclass

from meshlab.api.istio.destination_rule import (
    ClientTLSSettings,
    ConnectionPoolSettings,
    LoadBalancerSettings,
    OutlierDetection,
    TrafficPolicy,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What is in force for one cluster."""

    load_balancer: LoadBalancerSettings | None = None
    connection_pool: ConnectionPoolSettings | None = None
    outlier_detection: OutlierDetection | None = None
    tls: ClientTLSSettings | None = None


NO_POLICY = Policy()


def overlay(base: Policy, policy: TrafficPolicy | None, port: int) -> Policy:
    """Return `base` with a policy over it.

    A subset's policy overlays block by block; the block of a port replaces everything, also
    what it leaves out.
    """
    if policy is None:
        return base
    for each in policy.port_level_settings:
        if each.port is not None and each.port.number == port:
            return Policy(
                load_balancer=each.load_balancer,
                connection_pool=each.connection_pool,
                outlier_detection=each.outlier_detection,
                tls=each.tls,
            )
    return Policy(
        load_balancer=policy.load_balancer or base.load_balancer,
        connection_pool=policy.connection_pool or base.connection_pool,
        outlier_detection=policy.outlier_detection or base.outlier_detection,
        tls=policy.tls or base.tls,
    )
