"""Examples of the pages on a service that need other programs: run where these are, else checked as far as can be."""

import base64
import os
import re
import shlex
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import optuna
import pytest
import yaml
from doc_blocks import ROOT, SCRIPT, blocks, lines, parse

PAGE = "docs/service.md"
COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text())
SECRET = "a-token-of-the-test-alone"


def test_the_targets_of_make_are_there():
    made = (ROOT / "Makefile").read_text()
    assert all(re.search(rf"^{name}:", made, re.MULTILINE) for name in ("demo", "test"))


def test_what_is_run_in_containers():
    compose = [shlex.split(line)[2:] for line in lines(PAGE) if line.startswith("docker compose")]
    assert [words[0] for words in compose] == ["up", "run", "exec"]
    assert compose[0][compose[0].index("--scale") + 1].partition("=")[0] in COMPOSE["services"]
    _, _, service, *command = compose[1]
    assert COMPOSE["services"][service]["image"] == "ssdtune"
    parse(command)
    assert compose[2][1] in COMPOSE["services"]
    (secret,) = (word for word in compose[2] if word.startswith("/run/secrets/"))
    assert secret in str(COMPOSE)


def test_gunicorn_serves_the_dashboard(tmp_path, start_process):
    pytest.importorskip("gunicorn", reason="gunicorn is not installed")
    url = f"sqlite:///{tmp_path}/studies.db"
    optuna.create_study(study_name="shown", storage=url)
    (tmp_path / "token").write_text(SECRET)
    (line,) = (line for line in lines(PAGE) if "gunicorn" in line)
    words = shlex.split(line)
    place = words.index("gunicorn")
    named = dict(zip((word.partition("=")[0] for word in words[:place]), (url, f"{tmp_path}/token"), strict=True))
    assert list(named) == ["SSDTUNE_STORAGE", "SSDTUNE_DASHBOARD_TOKEN_FILE"]
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    server = start_process(
        [sys.executable, "-m", "gunicorn", "--bind", address, *words[place + 1 :]],
        env={**os.environ, **named},
        cwd=ROOT,
    )
    assert answer(f"http://{address}/api/studies", server) == 401
    assert answer(f"http://{address}/api/studies", server, SECRET) == 200


def answer(url, server, token=None):
    """The status of an answer, waited for while the server starts."""
    request = urllib.request.Request(url)
    if token:
        request.add_header("Authorization", "Basic " + base64.b64encode(f"any:{token}".encode()).decode())
    while server.poll() is None:
        try:
            with urllib.request.urlopen(request, timeout=60) as found:
                return found.status
        except urllib.error.HTTPError as refused:
            return refused.code
        except OSError:
            time.sleep(0.1)
    raise AssertionError("the server ended")


def test_the_script_of_slurm_starts_a_worker_with_its_storage(tmp_path):
    """With a command that shows what it is called with in the place of ``srun``."""
    assert SCRIPT[0] == "#!/bin/bash"
    (options,) = (line.split()[1:] for line in SCRIPT if line.startswith("#SBATCH"))
    assert all(re.fullmatch(r"--[a-z-]+(=\S+)?", option) for option in options)
    (tmp_path / "srun").write_text("#!/bin/sh\nenv | grep ^SSDTUNE_\necho called: $*\n")
    (tmp_path / "srun").chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-eu", "-c", "\n".join(SCRIPT)],
        env={"PATH": path, "HOME": "/home/me", "USER": "me"},
        capture_output=True,
        text=True,
        check=True,
    )
    *given, called = done.stdout.splitlines()
    assert {line.partition("=")[0] for line in given} == {
        *("SSDTUNE_STORAGE", "SSDTUNE_STORAGE_PASSWORD_FILE", "SSDTUNE_DATA", "SSDTUNE_CACHE")
    }
    ours, *words = called.removeprefix("called: ").split()
    assert ours == "ssdtune" and parse(words).params["log_json"]


def test_the_deployment_fits_the_command_line_and_itself():
    (text,) = blocks("docs/service/schedulers.md", "yaml")
    deployment = yaml.safe_load(text)
    pod = deployment["spec"]["template"]
    assert deployment["spec"]["selector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()
    (worker,) = pod["spec"]["containers"]
    port = parse(worker["args"]).params["port"]
    assert worker["ports"] == [{"containerPort": port}]
    assert pod["metadata"]["annotations"]["prometheus.io/port"] == str(port)
    assert worker["livenessProbe"]["httpGet"] == {"path": "/healthz", "port": port}
    volumes = {volume["name"] for volume in pod["spec"]["volumes"]}
    assert {mount["name"] for mount in worker["volumeMounts"]} == volumes
    places = [mount["mountPath"] for mount in worker["volumeMounts"]]
    for variable in worker["env"]:
        known = "".join(path.read_text() for path in (ROOT / "ssdtune").rglob("*.py"))
        assert f'"{variable["name"]}"' in known
        if variable["value"].startswith("/"):
            assert variable["value"].startswith(tuple(places))
