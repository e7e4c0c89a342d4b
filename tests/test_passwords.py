"""Passwords stand in no plan, log, message or option of a process."""

import pytest

from coablate_platform.command import Command
from coablate_platform.passwords import completed, masked
from coablate_platform.study.errors import InputError
from coablate_platform.train.failures import failure_of

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
        ("model.tokens=joints, --tokens 5, token: joint", "model.tokens=joints, --tokens 5, token: joint"),
        ("key AKIAIOSFODNN7EXAMPLE denied", "key *** denied"),
        ("AWS_SECRET_ACCESS_KEY=wJalr/K7MDENG; x", "AWS_SECRET_ACCESS_KEY=***; x"),
        ("{'aws_session_token': 'abc/def+g=='}", "{'aws_session_token': '***'}"),
        ("RAY_AUTH_TOKEN: 0123abcd", "RAY_AUTH_TOKEN: ***"),
        ("Authorization: Bearer abcdef.ghi-jkl", "Authorization: Bearer ***"),
        (
            "https://b.s3.aws/x?X-Amz-Signature=9f&X-Amz-Expires=5",
            "https://b.s3.aws/x?X-Amz-Signature=***&X-Amz-Expires=5",
        ),
        ("postgresql://u:p%40ss@h/d?sslpassword=q", "postgresql://u:***@h/d?sslpassword=***"),
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


ENVIRONMENT = {
    "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
    "RAY_AUTH_TOKEN": "5ca1ab1e" * 8,
    "MLFLOW_TRACKING_PASSWORD": "correct horse battery staple",
}


@pytest.fixture
def secrets(monkeypatch) -> dict[str, str]:
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    return ENVIRONMENT


@pytest.mark.parametrize("name", ENVIRONMENT)
def test_a_secret_of_the_environment_is_masked_wherever_it_stands(secrets, name):
    assert masked(f"refused: <{secrets[name]}>") == "refused: <***>"


def test_a_short_value_or_a_path_of_the_environment_is_not_taken_for_a_secret(monkeypatch):
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", "/home/me/.ray/auth_token")
    monkeypatch.setenv("CI_TOKEN", "none")
    assert masked("/home/me/.ray/auth_token: none") == "/home/me/.ray/auth_token: none"


@pytest.mark.timeout(120)
@pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated")  # SQLAlchemy, within MLflow
def test_a_failure_that_names_secrets_leaves_none_in_the_journal_in_mlflow_or_in_a_log(
    plan, journal, train, secrets, coablate
):
    database = "postgresql://me:hunter2hunter2@db/x"
    train(plan.runs[0], None)
    try:
        raise RuntimeError(f"cannot reach {database} with {secrets}")
    except RuntimeError as error:
        failure = failure_of(error)
    journal.fail(plan.runs[0].run_id, 0, failure)
    assert failure.reason.startswith("RuntimeError: cannot reach postgresql://me:***@db/x with {'AWS_SECRET")
    journal.write_plan(plan)
    answer = coablate("track", journal.folder.local)
    assert answer.code == 0, answer
    held = [file.read_bytes() for file in journal.folder.local.rglob("*") if file.is_file()]
    assert any(b"cannot reach postgresql" in content for content in held)
    hidden = ["hunter2hunter2", *secrets.values()]
    assert [text for text in hidden if any(text.encode() in content for content in held)] == []
    assert [text for text in hidden if text in answer.out + answer.err] == []


def test_an_override_or_a_store_with_a_secret_is_refused(refused, store, secrets):
    for words in (
        ("--data", store.uri, "--set", "model.weights=s3://KEY:SECRET@bucket/w.pt"),
        ("--data", "s3://KEY:SECRET@bucket/store"),
        ("--data", store.uri, "--set", f"model.weights=/w/{secrets['RAY_AUTH_TOKEN']}.pt"),
    ):
        refused("plan", "smoke", *words, says=("results would keep this",))
