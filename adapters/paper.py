"""What text is written on: how wide it is, and whether in colour. Paragraphs, rows, and columns as kubectl prints them.

Text comes from logs, and logs hold what strangers typed: control characters are shown, never sent to the terminal.
`report` and `cli` write on it.
"""

from __future__ import annotations

import os
import shutil
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple, TextIO

WIDTH_OF_FILES = 100
"""How wide text is that goes to a file or a pipe, unless COLUMNS says otherwise."""

_CODES = {
    "bold": "1",
    "dim": "2",
    "red": "31",
    "green": "32",
    "yellow": "33",
    "magenta": "35",
    "cyan": "36",
    "bold red": "1;31",
}
_SHOWN = {code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0))} | {10: "\\n", 9: "\\t"}


class Paper(NamedTuple):
    """Where text goes: `width` in characters, and whether in colour. Every method gives lines without line ends."""

    width: int = WIDTH_OF_FILES
    colour: bool = False
    terminal: bool = False

    @classmethod
    def of(cls, stream: TextIO) -> Paper:
        """The paper that a stream is: a terminal's own width, colour only there and where NO_COLOR does not forbid it."""
        terminal = stream.isatty()
        colour = terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
        return cls(max(shutil.get_terminal_size((WIDTH_OF_FILES, 24)).columns, 40), colour, terminal)

    def styled(self, text: str, style: str = "") -> str:
        """Text in a style (`bold`, `dim`, a colour), where there is colour."""
        text = text.translate(_SHOWN)
        return f"\x1b[{_CODES[style]}m{text}\x1b[0m" if self.colour and style else text

    def paragraph(self, text: str, indent: int = 2, style: str = "", first: int | None = None) -> Iterator[str]:
        """Text broken at spaces; `first` is the indent of the first line, where it is another."""
        for line in textwrap.wrap(
            text.translate(_SHOWN),
            self.width - 1,
            initial_indent=" " * (indent if first is None else first),
            subsequent_indent=" " * indent,
            break_on_hyphens=False,
            break_long_words=False,
        ):
            yield self.styled(line, style)

    def row(self, name: str, value: str, indent: int = 12, start: int = 2) -> Iterator[str]:
        """A name, and beside it at `indent` what it stands for."""
        name = f"{' ' * start}{name}"
        lines = list(self.paragraph(value, indent)) or [""]
        yield f"{self.styled(f'{name:<{indent}}', 'dim')}{lines[0].lstrip()}".rstrip()
        yield from lines[1:]

    def columns(
        self,
        header: Sequence[str],
        rows: Iterable[tuple[str, Sequence[str]]],
        *,
        headers: bool = True,
        wrapped: Mapping[int, int] | None = None,
        cut: bool = False,
    ) -> Iterator[str]:
        """Rows of a style and cells, as wide as they need be, so that other programs can read them.

        `wrapped` gives the width of columns that are broken into lines; `cut` shortens the last one to fit a terminal.
        """
        table = [("bold", list(header))] if headers else []
        table += [(style, [cell.translate(_SHOWN) for cell in cells]) for style, cells in rows]
        broken = [
            (
                style,
                [
                    (textwrap.wrap(cell, (wrapped or {})[place], break_on_hyphens=False) or [""])
                    if place in (wrapped or {})
                    else [cell]
                    for place, cell in enumerate(cells)
                ],
            )
            for style, cells in table
        ]
        widths = [
            max((len(line) for _, cells in broken for line in cells[place]), default=0) for place in range(len(header))
        ]
        last = self.width - sum(width + 2 for width in widths[:-1])
        for style, cells in broken:
            for number in range(max(map(len, cells))):
                parts = [cell[number] if number < len(cell) else "" for cell in cells]
                if cut and self.terminal and 20 <= last < len(parts[-1]):
                    parts[-1] = parts[-1][: last - 1] + "…"
                line = "  ".join(f"{part:<{width}}" for part, width in zip(parts, widths, strict=True)).rstrip()
                yield self.styled(line, style)


def counted(count: int, noun: str, plural: str = "") -> str:
    """`1 record`, `2,000 records`."""
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"
