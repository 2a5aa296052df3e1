"""The one exception that means 'the user can mend this'."""


class UserError(Exception):
    """A mistake of the user's, told in one line: what was wrong and what to do.

    Programs end with this line and without a traceback (see ``fmnist.command_line``). Anything else that is raised is a
    defect of the project and keeps its traceback.
    """
