"""Errors that a user can cause, each one sentence."""

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """What must hold, what was given, what to do; the command line prints it and exits with 2."""


def unknown_name(kind: str, given: str, known: Iterable[str]) -> UserError:
    """Builds the error for a name that no hand-written dict knows, with the known ones and the nearest.

    Args:
        kind: Kind of the name, for example `ranker`.
        given: The name that was given.
        known: Every name that would have been accepted.

    Returns:
        The error, to be raised by the caller.
    """
    names = sorted(known)
    near = difflib.get_close_matches(str(given), names, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return UserError(f"unknown {kind} {given!r}: choose one of {', '.join(names)}{hint}")


def os_sentence(error: OSError) -> str:
    """One sentence for what the system says of a file or folder."""
    where = f" ({error.filename})" if error.filename else ""
    return (
        f"the files must be readable and the disk must have room, but the system says: {error.strerror or error}{where}"
    )
