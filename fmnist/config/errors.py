"""The exception for mistakes that the user can fix."""


class UserError(Exception):
    """A user's mistake. The message is one line: what is wrong and what to do.

    Programs print the line and exit without a traceback. Any other exception is a defect and keeps its traceback.
    """


class Pruned(Exception):  # noqa: N818 (what happened is no error)
    """The pruner of a search stopped a run. The message names the epoch and the value."""


def one_line(error: object) -> str:
    """The text of an error, without line breaks."""
    return " ".join(str(error).split())


def printable(text: str) -> str:
    """Replaces what is not printable: file names may contain line breaks and control sequences."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)
