"""Text tables, for the terminal and for Markdown."""

from collections.abc import Sequence

from tabulate import tabulate


def format_table(table: Sequence[Sequence[str]], tablefmt: str, *, words: int = 1) -> str:
    """Formats a header and rows.

    Args:
        table: The header, then the rows.
        tablefmt: ``plain`` for the terminal, ``pipe`` for Markdown.
        words: Number of columns, counted from the left, that are aligned to the left; the others hold numbers.
    """
    header, *rows = [[escape(cell) if tablefmt == "pipe" else cell for cell in row] for row in table]
    align = ["left"] * words + ["right"] * (len(header) - words)
    return tabulate(rows, header, tablefmt, disable_numparse=True, colalign=align)


def escape(text: str) -> str:
    """Text that Markdown shows as it is."""
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*")
