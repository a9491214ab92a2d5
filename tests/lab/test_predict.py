import pytest

from meshlab.lab.predict import reveal


@pytest.mark.parametrize(
    ("guess", "measured", "tolerance", "text"),
    [
        (None, 404, 0, "Status? You made no prediction; it is 404."),
        (503, 404, 0, "Status? Measured: 404, you said 503."),
        (404, 404, 0, "Status? Measured: 404, as you said."),
        (0.5, 0.48, 0.05, "Status? Measured: 0.48, as you said."),
        (" Refused", "refused", 0, "Status? Measured: refused, as you said."),
    ],
)
def test_reveal(guess: object, measured: object, tolerance: float, text: str) -> None:
    assert reveal("Status?", guess, measured, tolerance=tolerance).text() == text
