"""The dashboard's door: who is let in, and what a read-only one refuses."""

import base64

import optuna
import pytest

from ssdtune.errors import ConfigError
from ssdtune.report import dashboard_app
from ssdtune.report.dashboard_app import Guard, find_token, from_environment

SECRET = "a-token-of-some-length"


def ask(app, method="GET", path="/api/studies", host="127.0.0.1:8080", authorization=None):
    told = {}
    environ = {"REQUEST_METHOD": method, "PATH_INFO": path, "HTTP_HOST": host}
    if authorization:
        environ["HTTP_AUTHORIZATION"] = authorization
    app(environ, lambda status, headers, *_: told.update(status=int(status[:3]), headers=dict(headers)))
    return told


def inner(environ, start_response):
    start_response("200 OK", [])
    return [b"inside"]


@pytest.mark.parametrize(
    ("authorization", "status"),
    [
        (None, 401),
        ("Bearer wrong", 401),
        (f"Bearer {SECRET}", 200),
        ("Basic " + base64.b64encode(f"anyone:{SECRET}".encode()).decode(), 200),
        ("Basic " + base64.b64encode(b"anyone:wrong").decode(), 401),
        ("Basic !!!", 401),
        ("Digest x", 401),
    ],
)
def test_a_token_opens_it_from_anywhere(authorization, status):
    told = ask(Guard(inner, SECRET, False), host="lab.example.org", authorization=authorization)
    assert told["status"] == status
    assert ("WWW-Authenticate" in told["headers"]) == (status == 401)


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:8080", 200),
        ("localhost", 200),
        ("[::1]:8080", 200),
        ("[::1]", 200),
        ("evil.example", 403),
        ("", 403),
    ],
)
def test_without_one_a_request_must_be_addressed_to_this_machine(host, status):
    assert ask(Guard(inner, None, False), host=host)["status"] == status


def test_a_read_only_one_changes_nothing():
    app = Guard(inner, None, True)
    assert ask(app)["status"] == 200
    for method in ("POST", "PUT", "DELETE", "PATCH"):
        assert ask(app, method)["status"] == 403
    assert ask(app, path="/healthz", host="10.0.0.1")["status"] == 200


def test_the_application_for_other_servers_takes_all_from_the_environment(tmp_path, monkeypatch):
    url = f"sqlite:///{tmp_path}/studies.db"
    optuna.create_study(study_name="shown", storage=url)
    monkeypatch.setenv("SSDTUNE_STORAGE", url)
    with pytest.raises(ConfigError, match="without a token"):
        from_environment()
    (tmp_path / "token").write_text(SECRET + "\n")
    monkeypatch.setenv(dashboard_app.TOKEN_FILE, str(tmp_path / "token"))
    monkeypatch.setenv(dashboard_app.READ_ONLY, "1")
    app = from_environment()
    assert ask(app)["status"] == 401
    assert ask(app, authorization=f"Bearer {SECRET}")["status"] == 200
    assert ask(app, "DELETE", "/api/studies/1", authorization=f"Bearer {SECRET}")["status"] == 403
    assert optuna.study.get_all_study_names(url) == ["shown"]


def test_a_short_token_or_none_in_the_file_is_refused(tmp_path, monkeypatch):
    assert find_token() is None
    monkeypatch.setenv(dashboard_app.TOKEN, "short")
    with pytest.raises(ConfigError, match="shorter than 16"):
        find_token()
    (tmp_path / "token").write_text("")
    with pytest.raises(ConfigError, match="shorter than 16"):
        find_token(tmp_path / "token")
    with pytest.raises(ConfigError, match="cannot read the token"):
        find_token(tmp_path / "absent")
