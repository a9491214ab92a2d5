import pytest

from meshlab.observe.table import Table

TABLE = Table(
    ["Name", "Ready"], [["blue-1", "2/2"], ["a|b<", None]], title="Pods", note="$ kubectl"
)


@pytest.mark.parametrize(
    ("form", "text"),
    [
        pytest.param("text", "Pods\nNAME     READY\nblue-1   2/2\na|b<\n$ kubectl", id="text"),
        pytest.param(
            "markdown",
            "| Name | Ready |\n| --- | --- |\n| blue-1 | 2/2 |\n| a\\|b< |  |",
            id="markdown",
        ),
    ],
)
def test_forms(form: str, text: str) -> None:
    assert getattr(TABLE, form)() == text


def test_html_escapes_and_needs_no_style_sheet() -> None:
    html = TABLE.html()
    assert ">a|b&lt;</td>" in html
    assert "class=" not in html
    assert "<style" not in html


def test_records() -> None:
    assert Table(["OUTLIER CHECK", "Name"], [["OK", "a"]]).records() == [
        {"outlierCheck": "OK", "name": "a"}
    ]


def test_a_padlock_is_two_columns_wide() -> None:
    table = Table(["from", "To"], [["🔒", "x"], ["abcd", "y"]], named=True)
    assert table.text() == "from   To\n🔒     x\nabcd   y"
