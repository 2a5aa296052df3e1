"""The one exception that means: the user can fix this."""


class UserError(Exception):
    """A user's mistake. The message is one line: what is wrong and what to do.

    Programs print the line and exit without a traceback. Any other exception is a defect and keeps its traceback.
    """
