"""The one exception for mistakes a user can fix."""


class UserError(ValueError):
    """A mistake in a user's input. The message is one line: the file, the value found, what was expected, the fix.

    The command line prints it without a traceback and exits with code 2.
    """
