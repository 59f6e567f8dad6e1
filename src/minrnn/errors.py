"""The one exception that the command line turns into a single clear line."""


class UserError(ValueError):
    """Something a person can mend: a missing file, an unreadable text, a foreign run folder.

    The message names the thing, what was found and the mend. The command line prints it as one line and exits with
    code 2.
    """
