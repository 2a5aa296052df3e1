"""Tables of text: side by side for the terminal, and as Markdown. Imported without torch."""

from collections.abc import Sequence

Table = list[list[str]]  # a header and rows


def aligned(table: Table, words: int) -> list[str]:
    """Columns side by side, the first ``words`` to the left, the others, numbers, to the right."""
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if place < words else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in table
    ]


def markdown_rows(table: Table, words: int) -> list[str]:
    """The lines of a Markdown table, aligned in the same way."""
    header, *rows = table
    rule = "| " + " | ".join(["---"] * words + ["---:"] * (len(header) - words)) + " |"
    return [_row(header), rule, *map(_row, rows)]


def escaped(text: str) -> str:
    """Text as it is, where Markdown would read marks into it."""
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*")


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(map(escaped, cells))} |"
