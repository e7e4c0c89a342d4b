"""Keeps passwords and other secrets out of what is shown or written: plans, logs, messages, the journal."""

import os
import re

TRACKING = "COABLATE_TRACKING"
"""Environment variable with MLflow's address; a process's environment is not shown to other users, its options are."""
STORAGE = "COABLATE_STORAGE"
"""Environment variable with the URL of Optuna's storage."""
HIDDEN = "***"
"""What stands in the place of a password."""
_PASSWORD = re.compile(r"(?P<before>[a-zA-Z][\w+.-]*://[^\s/@:?#]*:)[^\s/@]+(?=@)")
_SECRET_OPTION = re.compile(
    r"(?i)(?P<before>[?&](?:password|passwd|pwd|secret|secret_key|token|sslpassword|access_token|api_key|sig|signature"
    r"|x-amz-(?:signature|credential|security-token))=)[^&\s#]+"
)
_ASSIGNED = re.compile(
    r"(?P<before>\b(?:[A-Z0-9_]*(?:PASSWORD|SECRET|TOKEN|ACCESS_KEY|API_KEY)[A-Z0-9_]*"
    r"|aws_secret_access_key|aws_session_token)[\"']?\s*[=:]\s*[\"']?)[^\s\"',;&}]+"
)
_BEARER = re.compile(r"(?i)(?P<before>\b(?:bearer|basic)\s+)[\w.~+/=-]{8,}")
_AWS_KEY = re.compile(r"(?P<before>)\b(?:AKIA|ASIA)[A-Z0-9]{16}\b")
_SECRET_NAME = re.compile("PASSWORD|PASSWD|SECRET|TOKEN|ACCESS_KEY|API_KEY|CREDENTIAL", re.IGNORECASE)
_SHORTEST = 8  # characters of a value of the environment that is masked: a shorter one may be part of any word


def masked(text: str) -> str:
    """Return a text without secrets: ``***`` stands in their place, as in ``scheme://user:***@host``.

    Secrets are the passwords, tokens and signatures of addresses, AWS keys, what is assigned to a variable with a name
    such as ``…_TOKEN`` or ``…_PASSWORD``, and the values that such variables have in the environment, wherever they
    stand.
    """
    for pattern in (_PASSWORD, _SECRET_OPTION, _ASSIGNED, _BEARER, _AWS_KEY):
        text = pattern.sub(rf"\g<before>{HIDDEN}", text)
    for name, value in os.environ.items():
        if len(value) >= _SHORTEST and _SECRET_NAME.search(name) and os.sep != value[0]:  # not the path of a file
            text = text.replace(value, HIDDEN)
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
