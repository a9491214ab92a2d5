"""Read Envoy's matchers: strings, headers, query parameters, shares, address ranges."""

from collections.abc import Sequence
from ipaddress import ip_network
from typing import Literal

from envoy.config.core.v3.address_pb2 import CidrRange
from envoy.config.route.v3.route_components_pb2 import HeaderMatcher, QueryParameterMatcher
from envoy.type.matcher.v3.string_pb2 import StringMatcher
from envoy.type.v3.percent_pb2 import FractionalPercent, Percent

from meshlab.errors import ConfigError
from meshlab.proxy.config.protobuf import join, wrapped
from meshlab.proxy.core.matcher import (
    Fraction,
    HeaderMatch,
    QueryMatch,
    StringMatch,
    compile_regex,
)

StringKind = Literal["exact", "prefix", "suffix", "contains", "regex"]

STRING_KINDS: dict[str, StringKind] = {
    "exact": "exact",
    "prefix": "prefix",
    "suffix": "suffix",
    "contains": "contains",
    "safe_regex": "regex",
}
HEADER_KINDS: dict[str, StringKind] = {
    "exact_match": "exact",
    "prefix_match": "prefix",
    "suffix_match": "suffix",
    "contains_match": "contains",
    "safe_regex_match": "regex",
}
"""The older form of `HeaderMatcher`, without `string_match`."""

DENOMINATORS: dict[int, Literal[100, 10_000, 1_000_000]] = {
    FractionalPercent.HUNDRED: 100,
    FractionalPercent.TEN_THOUSAND: 10_000,
    FractionalPercent.MILLION: 1_000_000,
}


def string_match(
    kind: StringKind, value: str, path: str, *, ignore_case: bool = False
) -> StringMatch:
    """Return the matcher; raises ConfigError for a pattern that does not compile."""
    pattern = value.encode()
    if kind == "regex":
        compile_regex(pattern, field=path)
    elif kind != "exact" and not pattern:
        raise ConfigError("must not be empty", field=path)
    return StringMatch(kind=kind, value=pattern, ignore_case=ignore_case)


def compile_string_matcher(message: StringMatcher, path: str) -> StringMatch:
    kind = message.WhichOneof("match_pattern")
    if kind not in STRING_KINDS:
        raise ConfigError(
            "must set one of its patterns", field=path, allowed=", ".join(STRING_KINDS)
        )
    value = message.safe_regex.regex if kind == "safe_regex" else getattr(message, kind)
    place = join(path, "safe_regex.regex" if kind == "safe_regex" else kind)
    return string_match(STRING_KINDS[kind], value, place, ignore_case=message.ignore_case)


def compile_header_matcher(message: HeaderMatcher, path: str) -> HeaderMatch:
    if not message.name:
        raise ConfigError("must not be empty", field=join(path, "name"))
    name = message.name.lower().encode()
    kind = message.WhichOneof("header_match_specifier")
    value: StringMatch | None = None
    int_range: tuple[int, int] | None = None
    invert = message.invert_match
    if kind == "string_match":
        value = compile_string_matcher(message.string_match, join(path, "string_match"))
    elif kind == "range_match":
        int_range = (message.range_match.start, message.range_match.end)
    elif kind == "present_match":
        invert = invert == message.present_match  # `present_match: false` turns the test round
    elif kind is not None:
        text = message.safe_regex_match.regex if "regex" in kind else getattr(message, kind)
        value = string_match(HEADER_KINDS[kind], text, join(path, kind))
    return HeaderMatch(
        name=name,
        value=value,
        int_range=int_range,
        invert=invert,
        treat_missing_as_empty=message.treat_missing_header_as_empty,
    )


def compile_header_matchers(
    messages: Sequence[HeaderMatcher], path: str
) -> tuple[HeaderMatch, ...]:
    return tuple(
        compile_header_matcher(message, f"{path}[{index}]")
        for index, message in enumerate(messages)
    )


def compile_query_matcher(message: QueryParameterMatcher, path: str) -> QueryMatch:
    kind = message.WhichOneof("query_parameter_match_specifier")
    if kind == "present_match" and not message.present_match:
        raise ConfigError("must be true", field=join(path, "present_match"))
    value = (
        compile_string_matcher(message.string_match, join(path, "string_match"))
        if kind == "string_match"
        else None
    )
    return QueryMatch(name=message.name.encode(), value=value)


def compile_fraction(message: FractionalPercent, path: str) -> Fraction:
    """Return the share; numerator and denominator as they stand."""
    if message.denominator not in DENOMINATORS:
        raise ConfigError(
            "is unknown", field=join(path, "denominator"), found=str(message.denominator)
        )
    return Fraction(message.numerator, DENOMINATORS[message.denominator])


def compile_percent(message: Percent, path: str) -> float:
    """Return a `Percent`, 0 to 100."""
    value = float(message.value)
    if not 0 <= value <= 100:
        raise ConfigError("must be 0 to 100", field=join(path, "value"), found=f"{value:g}")
    return value


def compile_cidr(message: CidrRange, path: str) -> str:
    """Return the range in CIDR notation; host bits are dropped, as Envoy does."""
    prefix_len = wrapped(message, "prefix_len", 0)
    try:
        return str(ip_network(f"{message.address_prefix}/{prefix_len}", strict=False))
    except ValueError as error:
        raise ConfigError(str(error), field=join(path, "address_prefix")) from None


def compile_cidrs(messages: Sequence[CidrRange], path: str) -> tuple[str, ...]:
    return tuple(
        compile_cidr(message, f"{path}[{index}]") for index, message in enumerate(messages)
    )
