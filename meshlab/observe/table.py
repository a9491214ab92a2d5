"""A table that shows itself: as kubectl prints it, as HTML in a notebook, as Markdown in a text."""

import html
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

GAP = "   "
"""Between two columns, as kubectl has it."""
LINE = "1px solid rgba(128, 128, 128, 0.35)"
"""A border that is seen on light and on dark ground; text keeps the page's own colour."""
CELL = "padding: 0.2em 0.9em 0.2em 0; text-align: left; white-space: nowrap;"


@dataclass(frozen=True, slots=True)
class Table:
    headers: Sequence[str]
    rows: Sequence[Sequence[object]]
    title: str = ""
    """A line above."""
    note: str = ""
    """Lines below: the command that shows the same, what a mark means."""
    named: bool = False
    """Whether the headers are names, to be shown as they are, and no titles of columns."""

    def text(self) -> str:
        """Return aligned columns under upper-case headers, no space at a line's end."""
        lines = [[header if self.named else header.upper() for header in self.headers]]
        lines += [[_shown(cell) for cell in row] for row in self.rows]
        widths = [max(map(_width, column)) for column in zip(*lines, strict=True)]
        body = [
            GAP.join(
                cell + " " * (width - _width(cell))
                for cell, width in zip(line, widths, strict=True)
            ).rstrip()
            for line in lines
        ]
        return "\n".join([*self._around(self.title), *body, *self._around(self.note)])

    @staticmethod
    def _around(line: str) -> list[str]:
        return [line] if line else []

    def html(self) -> str:
        """Return the table with inline styles: notebooks keep no style sheet."""
        head = "".join(
            f'<th style="{CELL} border-bottom: {LINE}; font-weight: 600;">{html.escape(h)}</th>'
            for h in self.headers
        )
        rows = "".join(
            "<tr style='background: none;'>"
            + "".join(
                f'<td style="{CELL} border-bottom: {LINE};">{html.escape(_shown(cell))}</td>'
                for cell in row
            )
            + "</tr>"
            for row in self.rows
        )
        title = f"<div style='font-weight: 600;'>{html.escape(self.title)}</div>"
        note = f"<pre style='{NOTE}'>{html.escape(self.note)}</pre>"
        return (
            f"{title if self.title else ''}"
            "<table style='border-collapse: collapse; font-family: monospace; font-size: 0.92em; "
            f"margin: 0.3em 0;'><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
            f"{note if self.note else ''}"
        )

    def markdown(self) -> str:
        lines = [self.headers, ["---"] * len(self.headers), *self.rows]
        return "\n".join(
            "| " + " | ".join(_shown(cell).replace("|", "\\|") for cell in line) + " |"
            for line in lines
        )

    def records(self) -> list[dict[str, object]]:
        """Return a mapping a row, for `-o json`: keys in camel case, as the API's."""
        keys = [_camel(header) for header in self.headers]
        return [dict(zip(keys, row, strict=True)) for row in self.rows]

    def __repr__(self) -> str:
        return self.text()

    def _repr_mimebundle_(self, **_: Any) -> Mapping[str, str]:
        return {"text/plain": self.text(), "text/html": self.html()}


NOTE = "margin: 0.2em 0; padding: 0; background: none; opacity: 0.75; font-size: 0.85em;"
"""Style of the lines below a table."""


def _shown(cell: object) -> str:
    return "" if cell is None else str(cell)


def _width(text: str) -> int:
    """Return the columns a text takes in a terminal; a padlock takes two."""
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def _camel(header: str) -> str:
    first, *rest = header.lower().replace("-", " ").split()
    return first + "".join(word.capitalize() for word in rest)
