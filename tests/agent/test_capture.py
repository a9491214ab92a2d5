"""The capture rules, in Istio's order."""

import argparse
import shutil
import subprocess

import pytest

from meshlab.agent.__main__ import _parser
from meshlab.agent.capture import Capture, capture_of, iptables_text, nft_text
from meshlab.errors import ConfigError

SIDECAR = ["-p", "15001", "-z", "15006", "-u", "1337", "-m", "REDIRECT"]


def flags(*more: str) -> argparse.Namespace:
    return _parser().parse_args(["istio-iptables", *SIDECAR, *more])


def test_the_default_rules_in_order() -> None:
    capture = capture_of(flags("-i", "*", "-x", "", "-b", "*", "-d", "15090,15021,15020"))
    assert capture == Capture()
    assert nft_text(capture).splitlines()[9:] == [
        "\tchain istio-inbound {",
        "\t\ttcp dport 15008 return",
        "\t\ttcp dport 15090 return",
        "\t\ttcp dport 15021 return",
        "\t\ttcp dport 15020 return",
        "\t\tmeta l4proto tcp jump istio-in-redirect",
        "\t}",
        "\tchain istio-output {",
        '\t\toifname "lo" ip saddr 127.0.0.6/32 return',
        '\t\toifname "lo" ip daddr != 127.0.0.1/32 meta skuid 1337 tcp dport != 15008'
        " jump istio-in-redirect",
        '\t\toifname "lo" meta skuid != 1337 return',
        "\t\tmeta skuid 1337 return",
        '\t\toifname "lo" ip daddr != 127.0.0.1/32 meta skgid 1337 tcp dport != 15008'
        " jump istio-in-redirect",
        '\t\toifname "lo" meta skgid != 1337 return',
        "\t\tmeta skgid 1337 return",
        "\t\tip daddr 127.0.0.1/32 return",
        "\t\tjump istio-redirect",
        "\t}",
        "\tchain prerouting {",
        "\t\ttype nat hook prerouting priority -100; policy accept;",
        "\t\tmeta l4proto tcp jump istio-inbound",
        "\t}",
        "\tchain output {",
        "\t\ttype nat hook output priority -100; policy accept;",
        "\t\tmeta l4proto tcp jump istio-output",
        "\t}",
        "}",
    ]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        pytest.param(
            ("-i", "10.0.0.0/8,192.168.0.0/16"),
            ["-d 10.0.0.0/8 -j ISTIO_REDIRECT", "-d 192.168.0.0/16 -j ISTIO_REDIRECT"],
            id="listed ranges instead of everything",
        ),
        pytest.param(("-i", ""), [], id="no range, nothing captured outbound"),
        pytest.param(
            ("-i", "*", "-x", "169.254.0.0/16"),
            ["-d 169.254.0.0/16 -j RETURN", "-j ISTIO_REDIRECT"],
            id="excluded ranges come first",
        ),
        pytest.param(
            ("-i", "", "-q", "80"),
            ["-p tcp --dport 80 -j ISTIO_REDIRECT"],
            id="a port captured whatever the address",
        ),
    ],
)
def test_outbound_ranges(given: tuple[str, ...], expected: list[str]) -> None:
    text = iptables_text(capture_of(flags("-b", "*", *given)))
    rules = [line for line in text.splitlines() if line.startswith("-A ISTIO_OUTPUT")]
    after_loopback = rules[rules.index("-A ISTIO_OUTPUT -d 127.0.0.1/32 -j RETURN") + 1 :]
    assert after_loopback == [f"-A ISTIO_OUTPUT {rule}" for rule in expected]


@pytest.mark.parametrize(
    ("ports", "expected"),
    [
        pytest.param("", [], id="none"),
        pytest.param(
            "80,8080",
            [
                "-A ISTIO_INBOUND -p tcp --dport 80 -j ISTIO_IN_REDIRECT",
                "-A ISTIO_INBOUND -p tcp --dport 8080 -j ISTIO_IN_REDIRECT",
            ],
            id="listed only",
        ),
    ],
)
def test_inbound_ports(ports: str, expected: list[str]) -> None:
    text = iptables_text(capture_of(flags("-i", "*", "-b", ports)))
    assert [line for line in text.splitlines() if "-A ISTIO_INBOUND" in line] == expected


def test_an_unsupported_mode_is_refused() -> None:
    given = _parser().parse_args(["istio-iptables", "-m", "TPROXY"])
    with pytest.raises(ConfigError, match="TPROXY"):
        capture_of(given)


@pytest.mark.root
@pytest.mark.skipif(shutil.which("nft") is None, reason="nft is not installed")
@pytest.mark.parametrize("times", [1, 2])
def test_nft_takes_the_rules_again_and_again(times: int) -> None:
    capture = Capture(
        include_cidrs=("10.0.0.0/8",),
        exclude_cidrs=("10.1.0.0/16",),
        exclude_outbound_ports=("53", "1000:2000"),
        include_outbound_ports=("80",),
        exclude_interfaces=("eth9",),
    )
    text = nft_text(capture) * times
    script = ["unshare", "-n", "nft", "-f", "-"]
    done = subprocess.run(script, input=text, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
