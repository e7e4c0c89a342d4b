"""Passwords stand in no plan, log, message or option of a process."""

import pytest

from coablate_platform.passwords import completed, masked
from coablate_platform.session import Command
from coablate_platform.study.errors import InputError

SECRET = "http://me:pass:w0rd!@host:5000/x"
MASKED = "http://me:***@host:5000/x"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (SECRET, MASKED),
        (f"API request to {SECRET} failed, as to {SECRET}", f"API request to {MASKED} failed, as to {MASKED}"),
        ("postgresql+psycopg2://u:p@db/name?sslmode=require", "postgresql+psycopg2://u:***@db/name?sslmode=require"),
        ("postgresql://db/name?user=u&password=p&x=1", "postgresql://db/name?user=u&password=***&x=1"),
        ("s3://KEY:SE/CRET@bucket", "s3://KEY:SE/CRET@bucket"),
        ("s3://KEY:SECRET@bucket/path", "s3://KEY:***@bucket/path"),
        ("http://host:5000/x@y:z@", "http://host:5000/x@y:z@"),
        ("sqlite:////home/me/mlflow.db", "sqlite:////home/me/mlflow.db"),
        ("seed 3: 40% at 12:30@home", "seed 3: 40% at 12:30@home"),
    ],
)
def test_passwords_are_masked_and_nothing_else(text, shown):
    assert masked(text) == shown
    assert masked(shown) == shown


def test_a_masked_address_is_completed_by_the_same_address_only():
    assert completed(None, SECRET) is None
    assert completed("http://host", SECRET) == "http://host"
    assert completed(MASKED, SECRET) == SECRET
    assert completed(MASKED, "http://me:x@elsewhere") is None
    assert completed(MASKED, None) is None


def test_a_plan_keeps_no_password_and_the_environment_gives_it_back():
    command = Command(study="modules", data="/store", tracking=SECRET, storage="mysql://u:p@h/d")
    kept = command.to_resume()
    assert kept["tracking"] == MASKED
    assert kept["storage"] == "mysql://u:***@h/d"
    again = Command(**kept | {"overrides": (), "warm": (), "source": ""})
    variables = {"COABLATE_TRACKING": SECRET, "COABLATE_STORAGE": "mysql://u:p@h/d"}
    assert again.with_passwords(variables) == command
    with pytest.raises(InputError, match=r"--storage mysql.*was not kept; set COABLATE_STORAGE"):
        again.with_passwords({"COABLATE_TRACKING": SECRET})
