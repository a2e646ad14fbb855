"""What is deployed: the compose file by the schema of such files, and that it and the Dockerfile fit the commands."""

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from ssdtune.cli import cli

ROOT = Path(__file__).parents[1]
COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text())
DOCKERFILE = (ROOT / "Dockerfile").read_text()


def test_the_compose_file_is_one_by_its_schema():
    pytest.importorskip("check_jsonschema", reason="check-jsonschema is not installed")
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", "compose.yaml"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_command_of_a_service_is_one_of_ssdtune():
    ours = {name: service for name, service in COMPOSE["services"].items() if service.get("image") == "ssdtune"}
    assert set(ours) == {"storage", "dashboard", "worker"}
    for service in ours.values():
        cli.make_context("ssdtune", [*service["command"], "--help"], resilient_parsing=True)
        name, *rest = service["command"]
        command = cli.get_command(None, name)
        while hasattr(command, "commands"):
            command, rest = command.commands[rest[0]], rest[1:]
        command.make_parser(command.make_context(name, rest, resilient_parsing=True)).parse_args(list(rest))


def test_services_wait_for_each_other_keep_their_data_and_hold_no_password():
    services, volumes = COMPOSE["services"], COMPOSE["volumes"]
    assert services["worker"]["depends_on"]["storage"] == {"condition": "service_completed_successfully"}
    assert services["storage"]["depends_on"]["database"] == {"condition": "service_healthy"}
    used = {str(place).split(":")[0] for service in services.values() for place in service.get("volumes", [])}
    assert set(volumes) == {name for name in used if name.isidentifier()}
    assert services["dashboard"]["ports"] == ["127.0.0.1:8080:8080"]
    for service in services.values():
        for name, value in service.get("environment", {}).items():
            assert name.endswith("_FILE") or not any(word in name for word in ("PASSWORD", "TOKEN", "SECRET")), value
    assert ":" not in services["worker"]["environment"]["SSDTUNE_STORAGE"].partition("//")[2]


def test_each_service_has_the_passwords_that_it_reads_and_no_other():
    keys = dict(volume.split(":") for volume in COMPOSE["services"]["keys"]["volumes"])
    for name, service in COMPOSE["services"].items():
        if name == "keys":
            continue
        given = {volume.split(":")[1] for volume in service["volumes"] if volume.split(":")[0] in keys}
        read = {value.rpartition("/")[0] for name, value in service["environment"].items() if name.endswith("_FILE")}
        assert given == read and read, name
    assert COMPOSE["services"]["worker"]["environment"].keys().isdisjoint({"SSDTUNE_DASHBOARD_TOKEN_FILE"})


def test_the_script_that_makes_the_passwords_makes_each_once(tmp_path):
    (script,) = COMPOSE["services"]["keys"]["command"]
    script = script.replace("$$", "$").replace("/keys/", f"{tmp_path}/")
    places = dict(volume.split(":") for volume in COMPOSE["services"]["keys"]["volumes"])
    for place in places.values():
        (tmp_path / place.removeprefix("/keys/")).mkdir()
    made = []
    for _ in range(2):
        subprocess.run(["bash", "-euc", script], check=True)
        made.append({str(path.relative_to(tmp_path)): path.read_text() for path in tmp_path.glob("*/*")})
    assert made[0] == made[1] and set(made[0]) == {"database/password", "dashboard/token"}
    assert all(len(value) == 48 and value.isalnum() for value in made[0].values())
    assert len(set(made[0].values())) == 2


def test_the_image_is_of_two_stages_without_root_or_a_compiler_and_asks_for_extras_there_are():
    build, final = DOCKERFILE.split("\nFROM ")[-2:]
    assert "gcc" in build and "gcc" not in final
    assert "USER ssdtune" in final and "HEALTHCHECK" in final and 'ENTRYPOINT ["ssdtune"]' in final
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    asked = build.partition("'.[")[2].partition("]")[0].split(",")
    assert {"postgresql", "ray"} <= set(asked) <= set(extras)


def test_the_health_check_says_what_the_address_answers(tmp_path):
    text = DOCKERFILE.partition("HEALTHCHECK")[2].partition("CMD ")[2].splitlines()[0]
    _, *command = json.loads(text)
    for url, code in (("", 0), ((tmp_path / "well").as_uri(), 0), ((tmp_path / "absent").as_uri(), 1)):
        (tmp_path / "well").write_text("ok")
        done = subprocess.run(
            [sys.executable, *command], env={**os.environ, "SSDTUNE_HEALTH_URL": url}, capture_output=True, check=False
        )
        assert done.returncode == code
