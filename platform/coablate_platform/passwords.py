"""Keeps passwords out of what is shown or written: plans, logs, messages."""

import re

TRACKING = "COABLATE_TRACKING"
"""Environment variable with MLflow's address; a process's environment is not shown to other users, its options are."""
STORAGE = "COABLATE_STORAGE"
"""Environment variable with the URL of Optuna's storage."""
HIDDEN = "***"
"""What stands in the place of a password."""
_PASSWORD = re.compile(r"(?P<before>[a-zA-Z][\w+.-]*://[^\s/@:?#]*:)[^\s/@]+(?=@)")
_SECRET_OPTION = re.compile(r"(?i)(?P<before>[?&](?:password|passwd|pwd|secret|secret_key|token|sslpassword)=)[^&\s#]+")


def masked(text: str) -> str:
    """Return a text in which the passwords of all addresses are replaced: ``scheme://user:***@host``."""
    for pattern in (_PASSWORD, _SECRET_OPTION):
        text = pattern.sub(rf"\g<before>{HIDDEN}", text)
    return text


def completed(kept: str | None, given: str | None) -> str | None:
    """Return the whole address of which ``kept`` is the masked form.

    Args:
        kept: an address as a plan keeps it; None if there is none.
        given: the address that the user gives again; None if it is not given.

    Returns:
        ``kept`` if nothing is masked in it, ``given`` if that is the same address with its password, else None.
    """
    if kept is None or HIDDEN not in kept:
        return kept
    return given if given is not None and masked(given) == kept else None
