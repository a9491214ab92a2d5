"""How a pod's traffic gets to its sidecar: the rules as text, and applying them.

The chains and their order are istio-iptables' (istio.md 2.2), as nftables or as iptables; the text
is made by pure functions and tested as such. IPv4 only: the sidecar listens on IPv4.
"""

import argparse
import shutil
import subprocess
import sys
from dataclasses import dataclass

from meshlab.errors import ClusterError, ConfigError

TABLE = "istio-proxy-nat"
LOOPBACK = "127.0.0.1/32"
FROM_SIDECAR = "127.0.0.6/32"
"""The sidecar dials the app from here, so that its connections are told from everybody's."""
HBONE_PORT = 15008
DESTINATION_NAT = -100
"""Hook priority; by number, as nft knows the name `dstnat` in prerouting only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Capture:
    """What is redirected and what is left alone; flags and annotations of the pod."""

    outbound_port: int = 15001
    inbound_port: int = 15006
    proxy_uid: int = 1337
    proxy_gid: int = 1337
    include_cidrs: tuple[str, ...] = ("*",)
    """`-i`: destinations captured; ("*",): all, (): none."""
    exclude_cidrs: tuple[str, ...] = ()
    include_inbound_ports: tuple[str, ...] = ("*",)
    """`-b`: ports captured inbound; ("*",): all, (): none."""
    exclude_inbound_ports: tuple[str, ...] = ("15090", "15021", "15020")
    include_outbound_ports: tuple[str, ...] = ()
    """`-q`: captured whatever the address."""
    exclude_outbound_ports: tuple[str, ...] = ()
    exclude_interfaces: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One rule, in words that both tools have."""

    then: str
    """`return`, `redirect <port>` or the chain to go to."""
    protocol: str = ""
    port: str = ""
    not_port: int = 0
    out_interface: str = ""
    in_interface: str = ""
    source: str = ""
    destination: str = ""
    not_destination: str = ""
    owner: tuple[str, int] | None = None
    """(`uid` or `gid`, number) of the process that sends."""
    not_owner: tuple[str, int] | None = None


Chains = dict[str, list[Rule]]


def chains(capture: Capture) -> Chains:
    """Return the rules by chain, in Istio's order."""
    return {
        "ISTIO_REDIRECT": [Rule(protocol="tcp", then=f"redirect {capture.outbound_port}")],
        "ISTIO_IN_REDIRECT": [Rule(protocol="tcp", then=f"redirect {capture.inbound_port}")],
        "ISTIO_INBOUND": _inbound(capture),
        "ISTIO_OUTPUT": _outbound(capture),
        "PREROUTING": [
            *(Rule(in_interface=name, then="return") for name in capture.exclude_interfaces),
            Rule(protocol="tcp", then="ISTIO_INBOUND"),
        ],
        "OUTPUT": [
            *(Rule(out_interface=name, then="return") for name in capture.exclude_interfaces),
            Rule(protocol="tcp", then="ISTIO_OUTPUT"),
        ],
    }


def _inbound(capture: Capture) -> list[Rule]:
    if not capture.include_inbound_ports:
        return []
    if capture.include_inbound_ports != ("*",):
        return [
            Rule(protocol="tcp", port=port, then="ISTIO_IN_REDIRECT")
            for port in capture.include_inbound_ports
        ]
    left_alone = (str(HBONE_PORT), *capture.exclude_inbound_ports)
    return [
        *(Rule(protocol="tcp", port=port, then="return") for port in left_alone),
        Rule(protocol="tcp", then="ISTIO_IN_REDIRECT"),
    ]


def _outbound(capture: Capture) -> list[Rule]:
    rules = [
        Rule(protocol="tcp", port=port, then="return") for port in capture.exclude_outbound_ports
    ]
    # Before all owner rules: what the sidecar sends to the app must not come back to it.
    rules.append(Rule(out_interface="lo", source=FROM_SIDECAR, then="return"))
    for owner in (("uid", capture.proxy_uid), ("gid", capture.proxy_gid)):
        rules += _of_owner(owner)
    rules.append(Rule(destination=LOOPBACK, then="return"))
    rules += [Rule(destination=cidr, then="return") for cidr in capture.exclude_cidrs]
    rules += [
        Rule(protocol="tcp", port=port, then="ISTIO_REDIRECT")
        for port in capture.include_outbound_ports
    ]
    if capture.include_cidrs == ("*",):
        rules.append(Rule(then="ISTIO_REDIRECT"))
    else:
        rules += [Rule(destination=cidr, then="ISTIO_REDIRECT") for cidr in capture.include_cidrs]
    return rules


def _of_owner(owner: tuple[str, int]) -> list[Rule]:
    return [
        # The pod calls its own service and the sidecar picked this very pod: in through the front.
        Rule(
            out_interface="lo",
            owner=owner,
            not_destination=LOOPBACK,
            protocol="tcp",
            not_port=HBONE_PORT,
            then="ISTIO_IN_REDIRECT",
        ),
        Rule(out_interface="lo", not_owner=owner, then="return"),
        Rule(owner=owner, then="return"),
    ]


def nft_text(capture: Capture) -> str:
    """Return an `nft -f` script that replaces the table as one transaction."""
    lines = [f"add table ip {TABLE}", f"delete table ip {TABLE}", f"table ip {TABLE} {{"]
    for name, rules in chains(capture).items():
        lines.append(f"\tchain {_nft_name(name)} {{")
        if name in ("PREROUTING", "OUTPUT"):
            hook = name.lower()
            lines.append(f"\t\ttype nat hook {hook} priority {DESTINATION_NAT}; policy accept;")
        lines += [f"\t\t{_nft_rule(rule)}" for rule in rules]
        lines.append("\t}")
    return "\n".join([*lines, "}", ""])


def _nft_name(chain: str) -> str:
    return chain.lower().replace("_", "-")


def _nft_rule(rule: Rule) -> str:
    words = []
    if rule.in_interface:
        words.append(f'iifname "{rule.in_interface}"')
    if rule.out_interface:
        words.append(f'oifname "{rule.out_interface}"')
    if rule.source:
        words.append(f"ip saddr {rule.source}")
    if rule.destination:
        words.append(f"ip daddr {rule.destination}")
    if rule.not_destination:
        words.append(f"ip daddr != {rule.not_destination}")
    if rule.owner:
        words.append(f"meta sk{rule.owner[0]} {rule.owner[1]}")
    if rule.not_owner:
        words.append(f"meta sk{rule.not_owner[0]} != {rule.not_owner[1]}")
    if rule.port:
        words.append(f"{rule.protocol} dport {rule.port.replace(':', '-')}")
    elif rule.not_port:
        words.append(f"{rule.protocol} dport != {rule.not_port}")
    elif rule.protocol:
        words.append(f"meta l4proto {rule.protocol}")
    return " ".join([*words, _nft_verdict(rule.then)])


def _nft_verdict(then: str) -> str:
    if then == "return":
        return "return"
    verb, _, port = then.partition(" ")
    return f"redirect to :{port}" if verb == "redirect" else f"jump {_nft_name(then)}"


def iptables_text(capture: Capture) -> str:
    """Return the same rules for `iptables-restore --noflush`."""
    made = chains(capture)
    lines = ["*nat", *(f":{name} - [0:0]" for name in made if name.startswith("ISTIO_"))]
    for name, rules in made.items():
        lines += [f"-A {name} {_iptables_rule(rule)}" for rule in rules]
    return "\n".join([*lines, "COMMIT", ""])


def _iptables_rule(rule: Rule) -> str:
    words = []
    if rule.protocol:
        words.append(f"-p {rule.protocol}")
    if rule.in_interface:
        words.append(f"-i {rule.in_interface}")
    if rule.out_interface:
        words.append(f"-o {rule.out_interface}")
    if rule.source:
        words.append(f"-s {rule.source}")
    if rule.destination:
        words.append(f"-d {rule.destination}")
    if rule.not_destination:
        words.append(f"! -d {rule.not_destination}")
    if rule.owner:
        words.append(f"-m owner --{rule.owner[0]}-owner {rule.owner[1]}")
    if rule.not_owner:
        words.append(f"-m owner ! --{rule.not_owner[0]}-owner {rule.not_owner[1]}")
    if rule.port:
        words.append(f"--dport {rule.port}")
    if rule.not_port:
        words.append(f"! --dport {rule.not_port}")
    verb, _, port = rule.then.partition(" ")
    target = {"return": "RETURN", "redirect": f"REDIRECT --to-ports {port}"}.get(verb, rule.then)
    return " ".join([*words, f"-j {target}"])


def capture_of(flags: argparse.Namespace) -> Capture:
    """Read istio-iptables' flags.

    Raises:
        ConfigError: a mode or a value that is not one.
    """
    mode = flags.istio_inbound_interception_mode or "REDIRECT"
    if mode != "REDIRECT":
        raise ConfigError("interception mode is not supported", found=mode, allowed="REDIRECT")
    default = Capture()
    return Capture(
        outbound_port=_number(flags.envoy_port, default.outbound_port),
        inbound_port=_number(flags.inbound_capture_port, default.inbound_port),
        proxy_uid=_number(flags.proxy_uid, default.proxy_uid),
        proxy_gid=_number(flags.proxy_gid, default.proxy_gid),
        include_cidrs=_several(flags.istio_service_cidr),
        exclude_cidrs=_several(flags.istio_service_exclude_cidr),
        include_inbound_ports=_several(flags.istio_inbound_ports),
        exclude_inbound_ports=_several(flags.istio_local_exclude_ports),
        include_outbound_ports=_several(flags.istio_outbound_ports),
        exclude_outbound_ports=_several(flags.istio_local_outbound_ports_exclude),
        exclude_interfaces=_several(flags.istio_exclude_interfaces),
    )


def _several(text: str | None) -> tuple[str, ...]:
    parts = tuple(part.strip() for part in (text or "").split(",") if part.strip())
    return ("*",) if "*" in parts else parts


def _number(text: str | None, default: int) -> int:
    if text is None:
        return default
    if not text.isdigit():
        raise ConfigError("not a number", found=repr(text))
    return int(text)


def command(flags: argparse.Namespace) -> int:
    """Run `istio-iptables`: print the rules, then put them in force."""
    backend = flags.backend or ("nft" if shutil.which("nft") else "iptables")
    if flags.cleanup_only:
        _cleanup(backend)
        return 0
    capture = capture_of(flags)
    text = nft_text(capture) if backend == "nft" else iptables_text(capture)
    sys.stdout.write(text)
    if not flags.dry_run:
        apply(backend, text)
    return 0


def apply(backend: str, text: str) -> None:
    """Put rules in force, in the network namespace of this process.

    Raises:
        ClusterError: the tool is missing or refuses.
    """
    if backend == "nft":
        _run(["nft", "-f", "-"], text)
        return
    _cleanup(backend)  # without a transaction: --noflush would add to an earlier run's rules
    _run(["iptables-restore", "--noflush"], text)


def _cleanup(backend: str) -> None:
    if backend == "nft":
        _run(["nft", "-f", "-"], f"add table ip {TABLE}\ndelete table ip {TABLE}\n")
        return
    for name in ("PREROUTING", "OUTPUT", *(c for c in chains(Capture()) if c.startswith("ISTIO_"))):
        # A chain that is not there yet is what we want.
        subprocess.run(["iptables", "-t", "nat", "-F", name], capture_output=True, check=False)


def _run(argv: list[str], text: str) -> None:
    try:
        done = subprocess.run(argv, input=text, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise ClusterError(f"{argv[0]} is not installed here", fix="Install nftables.") from error
    if done.returncode:
        raise ClusterError(f"{argv[0]} refuses the capture rules: {done.stderr.strip()}")
