import json
import re
import xml.etree.ElementTree as ET

import pytest

from meshlab.lab import chart, display, figure, svg
from meshlab.lab.load import FAILED, Request, Sample
from meshlab.lab.plot import Area, Cell, Line, Plot, sparkline, ticks
from meshlab.lab.share import accepted


def requests(*answers: tuple[float, str], rate: float = 100.0) -> list[Request]:
    """Requests at a steady rate; each part lasts so many seconds and alternates its letters."""
    found = []
    at = 1000.0
    for seconds, names in answers:
        for number in range(round(seconds * rate)):
            name = {"b": "blue", "g": "green", "x": FAILED}[names[number % len(names)]]
            status = 502 if name == FAILED else 200
            found.append(Request(round(at, 3), 0.002, status, name, "pod", ""))
            at += 1 / rate
    return found


def test_windows_count_one_second() -> None:
    found = chart.windows(requests((3, "bg")))
    assert [w.total for w in found[:5]] == [20, 40, 60, 80, 100]
    assert {w.total for w in found[5:]} == {100}
    assert found[-1].counts == {"blue": 50, "green": 50}
    assert found[-1].end == pytest.approx(1002.99)


def test_windows_do_not_reach_back_over_a_change() -> None:
    """The step of a weight is a step in the chart, not a slope a second long."""
    found = chart.windows(requests((2, "b"), (2, "g")), cuts=[1002.0])
    assert {w.share("blue") for w in found} == {0.0, 1.0}


def test_windows_with_too_little_to_say_are_left_out() -> None:
    assert chart.windows(requests((0.04, "b"))) == []
    assert chart.windows([]) == []


def marks(plot: Plot, kind: type) -> dict[str, object]:
    return {mark.name: mark for mark in plot.marks if isinstance(mark, kind)}


def test_shares_stack_to_one() -> None:
    plot = chart.shares(
        requests((3, "bggx")),
        names=["blue", "green"],
        commanded=[(0.0, {"blue": 0.25})],
        began=1000,
    )
    areas = marks(plot, Area)
    assert list(areas) == ["blue", "green", FAILED, "99.99 % band"]
    (_, low, high) = areas[FAILED].pieces[0]  # type: ignore[attr-defined]
    assert (low[-1], high[-1]) == (0.75, 1.0)


def test_the_band_is_the_exact_one_of_each_window() -> None:
    plot = chart.shares(
        requests((3, "bg")), names=["blue", "green"], commanded=[(0.0, {"blue": 0.5})], began=1000
    )
    ((_, low, high),) = marks(plot, Area)["99.99 % band"].pieces  # type: ignore[attr-defined]
    least, most = accepted(100, 0.5, alpha=chart.BAND_ALPHA)
    assert (low[-1], high[-1]) == (least / 100, most / 100)


def test_there_is_no_band_while_a_weight_changes() -> None:
    """Proxies have a weight a little before the last of them acknowledges it."""
    plot = chart.shares(
        requests((2, "b"), (2, "g")),
        names=["blue", "green"],
        commanded=[(0.0, {"blue": 1.0}), (1002.0, {"blue": 0.0})],
        began=1000,
    )
    band = marks(plot, Area)["99.99 % band"].pieces  # type: ignore[attr-defined]
    assert len(band) == 2
    assert band[0][0][-1] == pytest.approx(1.4)  # the last window that ends 0.5 s before it
    line = marks(plot, Line)["weight of blue"]
    assert (list(line.x), list(line.y)) == ([0.0, 2.0, 3.99], [1.0, 0.0, 0.0])  # type: ignore[attr-defined]


def test_where_nobody_is_told_weights_none_are_drawn() -> None:
    plot = chart.shares(requests((2, "bg")), names=["blue", "green"], began=1000)
    assert marks(plot, Line) == {}


STEPS = [chart.Step("API server", 5.0, 5.6), chart.Step("mesh", 5.5, 8.0, "1 < 2 & 3")]
SAMPLE = Sample(requests((2, "bgx")))
PLOTS = {
    "shares": chart.shares(
        requests((3, "bg")), names=["blue", "green"], commanded=[(0.0, {"blue": 0.5})], began=1000
    ),
    "empty shares": chart.shares([], names=["blue", "green"], commanded=[], began=1000),
    "failures": chart.failures(
        requests((2, "bx")), events=[(1001.0, "retries: 40")], expected=0.125, began=1000
    ),
    "cost": chart.cost(
        chart.Cost(name="no retry", sample=SAMPLE, attempts=200),
        chart.Cost(name="40 retries", sample=SAMPLE, attempts=233),
    ),
    "staircase": chart.staircase([chart.Staircase(1, 9, 31, 300)], name="blue", wanted=0.1),
    "statuses": chart.status_matrix(
        {("a.test", "/"): 200}, hosts=["a.test", "b.test"], paths=["/"], title="<door>"
    ),
    "padlocks": chart.padlocks(
        {("a", "b"): True, ("c", "b"): False}, sources=["a", "c"], destinations=["b", "d"]
    ),
    "timeline": chart.timeline(STEPS, title="Boot"),
    "waterfall": chart.waterfall(STEPS, title="One request"),
}


@pytest.mark.parametrize("name", PLOTS)
def test_every_chart_is_a_picture_with_a_title_for_those_who_do_not_see_it(name: str) -> None:
    root = ET.fromstring(svg.render(PLOTS[name]))
    space = "{http://www.w3.org/2000/svg}"
    assert root.findtext(f"{space}title") == PLOTS[name].title
    assert root.attrib["aria-label"] == PLOTS[name].title
    numbers = re.findall(r"-?\d+\.\d{6,}|nan|inf", svg.render(PLOTS[name]))
    assert numbers == []


@pytest.mark.parametrize("name", PLOTS)
def test_every_chart_is_a_figure_that_plotly_takes(name: str) -> None:
    plotly = pytest.importorskip("plotly.graph_objects")
    found = figure.render(PLOTS[name])
    plotly.Figure(found)  # raises on any property it does not know
    assert len(found["data"]) == len(PLOTS[name].marks)
    json.dumps(found, allow_nan=False)


def test_a_saved_chart_is_light() -> None:
    """Ten minutes at 200 requests a second, with a change each half minute."""
    long = requests((600, "bgbbg"), rate=200)
    told = [(1000.0 + 30 * n, {"blue": n / 20}) for n in range(20)]
    plot = chart.shares(long, names=["blue", "green"], commanded=told, began=1000)
    assert len(json.dumps(display.bundle(plot))) < 100_000


def test_status_matrix() -> None:
    (cells,) = PLOTS["statuses"].marks
    assert cells.cells == [  # type: ignore[union-attr]
        Cell(0, 0, "✓ 200", "#228833", "a.test/: ✓ 200"),
        Cell(1, 0, "refused", "#8A9199", "b.test/: refused"),
    ]


def test_no_connection_seen_is_no_padlock() -> None:
    (cells,) = PLOTS["padlocks"].marks
    assert [(c.text, c.lock) for c in cells.cells] == [  # type: ignore[union-attr]
        ("mutual TLS", True),
        ("–", False),
        ("plain text", False),
        ("–", False),
    ]


def test_staircase_in_words() -> None:
    assert PLOTS["staircase"].text() == (
        "Replicas are a staircase, not a dial\n1 + 9 pods: 10.3% of 300 calls, possible 10.0%"
    )


def test_sparkline() -> None:
    assert sparkline([0, 0.5, 1, None, 2]) == "▁▅█ █"


@pytest.mark.parametrize(
    ("low", "high", "found"),
    [
        (0, 10, [0, 2, 4, 6, 8, 10]),
        (0, 0.5, [0, 0.1, 0.2, 0.3, 0.4, 0.5]),
        (20, 60, [20, 30, 40, 50, 60]),
        (0, 53.2, [0, 20, 40]),
        (3, 3, [3]),
    ],
)
def test_ticks(low: float, high: float, found: list[float]) -> None:
    assert ticks(low, high) == pytest.approx(found)
