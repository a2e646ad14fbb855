"""``ssdtune study``: a small real study from creation to the unlearned checkpoint, and one line for what is wrong."""

import csv
import json
import re
import shlex
import signal
import sqlite3
import subprocess
import sys
import time

import optuna
import pytest
import torch
from fastmri.models import VarNet

from ssdtune.cli import study_run
from ssdtune.cli.storage import typed_options
from ssdtune.mri.networks.checkpoint import read_provenance
from ssdtune.study.record import read_trial
from ssdtune.study.storage import load_study, open_storage
from ssdtune.study.trials import FINISHED


def test_create_measures_and_writes_the_study(study, run, tmp_path):
    done = run("create", study, "--name", "mine", "--sampler", "random", "--trials", 7, "--seed", 3, "--json")
    assert done.code == 0, done.err
    created = json.loads(done.out)
    assert created["name"] == "mine"
    assert created["search"]["sampler"] == "random"
    assert (created["search"]["trials"], created["search"]["seed"]) == (7, 3)
    assert created["study_file"]["model"]["checkpoint"] == "model.pt"  # as it was written
    assert created["floor_source"] == "number"
    assert {"retain_ssim", "forget_clean_ssim", "unknown_psnr"} <= created["baseline"].keys()
    assert created["identity"].keys() >= {"model", "loss", "data.forget", "data.unknown"}
    assert json.loads(run("list", "--json").out)[0]["name"] == "mine"
    assert run("create", study, "--name", "mine").code == 4
    assert "exists already" in run("create", study, "--name", "mine").err


@pytest.mark.parametrize(
    ("old", "new", "code", "message"),
    [
        ("trials = 4", "trails = 4", 2, "unknown key 'search.trails'"),
        ("floor = 0.01", "floor = 0.99", 2, "nothing to forget"),
        ('"model.pt"', '"none.pt"', 3, "none.pt"),
        ('unknown = "unknown"', 'unknown = "retain"', 3, "share"),
        ('forget = "forget"', 'forget = "empty"', 3, "forget"),
    ],
)
def test_create_refuses_and_writes_nothing(old, new, code, message, study, run, tmp_path):
    (study.parent / "empty").mkdir()
    study.write_text(study.read_text().replace(old, new))
    done = run("create", study)
    assert done.code == code
    assert message in done.err
    assert done.err.startswith("error: ")
    assert done.err.count("\n") == 1
    assert not (tmp_path / "studies.db").exists()


@pytest.mark.parametrize(
    ("option", "value", "code"),
    [("--sampler", "annealing", 2), ("--trials", 0, 2), ("--name", "no/name", 2), ("--device", "cuda:7", 2)],
)
def test_create_refuses_bad_options(option, value, code, study, run, tmp_path):
    done = run("create", study, option, value)
    assert done.code == code
    assert str(value) in done.err
    assert not (tmp_path / "studies.db").exists()


def test_a_storage_that_cannot_be_opened(study, run, tmp_path):
    assert run("create", study, "--storage", "nonsense").code == 4
    assert run("create", study, "--storage", f"sqlite:///{tmp_path}/no/studies.db").code == 4
    assert run("list").code == 4
    assert run("show", "small").code == 4
    assert not (tmp_path / "studies.db").exists()
    (tmp_path / "text.db").write_text("not a database " * 100)
    assert run("list", "--storage", f"sqlite:///{tmp_path}/text.db").code == 4


def test_a_run_shows_the_best_so_far_the_time_left_and_its_account(study, run):
    run("create", study)
    done = run("run", "small", "--json")
    assert done.code == 0, done.err
    lines = [line for line in done.err.splitlines() if "/4)  " in line]
    assert [line.split("  ")[0] for line in lines] == [f"trial {number} ({number + 1}/4)" for number in range(4)]
    assert all("best" in line and "eta" in line and "retained" in line for line in lines)
    found = json.loads(done.out)
    cost = found.pop("cost")
    assert found["feasible"]
    assert found == json.loads(run("best", "small", "--json").out)
    assert (cost["trials"], cost["possible"]) == (4, 36)  # 9 slices, 4 trials
    assert json.loads(run("show", "small", "--json").out)["cost"] == cost
    again = run("run", "small")
    assert again.code == 0
    assert "has 4 finished trials already" in again.err
    for text in (again.out, run("show", "small").out):
        assert re.search(r"slices evaluated +\d+ of 36", text)
        for word in ("unlearn", "reconstruct", "search", "stopped early", "the plain way"):
            assert word in text


def test_ctrl_c_keeps_finished_trials_and_says_how_to_go_on(study, run, tmp_path, start_process):
    run("create", study, "--trials", 500)
    url = f"sqlite:///{tmp_path}/studies.db"
    command = [sys.executable, "-c", "from ssdtune.cli import main; main()"]
    command += ["study", "run", "small", "--storage", url]
    process = start_process(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    running = load_study("small", open_storage(url))
    while len(running.get_trials(deepcopy=False, states=FINISHED)) < 2:
        assert process.poll() is None, process.communicate()
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130
    last = err.strip().splitlines()[-1]
    assert "of 500 trials are finished and kept" in last
    assert f"ssdtune study run small --storage {url}" in last
    kept = json.loads(run("list", "--json").out)[0]["trials"]
    assert kept >= 2
    assert run("run", "small", "--trials", kept + 1).code == 0
    assert json.loads(run("list", "--json").out)[0]["trials"] == kept + 1


def test_changed_inputs_are_refused(study, run, fastmri_file):
    run("create", study)
    fastmri_file(study.parent / "forget" / "forget.h5", slices=3, coils=2, shape=(32, 32), seed=9, clean=True)
    done = run("run", "small")
    assert done.code == 3
    assert "inputs changed since the study was made: forget data" in done.err


def test_show_best_and_list(small, run):
    assert "best trials" in run("show", small).out
    shown = json.loads(run("show", small, "--json").out)
    assert shown["trials"] == {"finished": 4, "running": 0, "failed": 0, "interrupted": 0}
    assert shown["best"]["feasible"]
    assert "retain_ssim" in run("best", small).out
    assert "retain_volume_ssim" in run("show", small).out
    assert small in run("list").out
    assert run("best", "smal").code == 4
    assert "did you mean 'small'?" in run("best", "smal").err


def test_rescore_at_the_studys_own_weight_changes_nothing(small, run):
    own = json.loads(run("best", small, "--json").out)
    same = json.loads(run("rescore", small, "--retain-weight", 0.2, "--json").out)
    assert same["best"]["number"] == own["number"]
    assert same["best"]["score"] == own["score"]
    other = json.loads(run("rescore", small, "--retain-weight", 1.0, "--min-retained", 0.0, "--json").out)
    for trial in other["trials"]:
        assert trial["score"] == trial["retained"]
        assert trial["feasible"]
    assert "best under retain_weight 0.5" in run("rescore", small, "--retain-weight", 0.5).out
    assert run("rescore", small, "--retain-weight", 1.5).code == 2
    bound = run("rescore", small, "--min-retained", 0.9).out
    assert (
        "best under retain_weight 0.2, min_retained 0.9:" in bound
        and "study's own retain_weight 0.2, min_retained" in bound
    )


def test_rescore_names_what_was_stopped_early_and_evaluates_it(study, run, tmp_path):
    run("create", study, "--sampler", "random", "--trials", 2)
    assert run("run", "small").code == 0
    stored = load_study("small", open_storage(f"sqlite:///{tmp_path}/studies.db"))
    first = stored.trials[0]
    params = {name: value / 2 for name, value in first.params.items()}
    estimate = {**first.user_attrs["measures"], "forget_ssim": 0.0, "stopped": "infeasible", "step": 1}
    stopped = {"params": params, "distributions": first.distributions, "user_attrs": {"measures": estimate}}
    stored.add_trial(optuna.trial.create_trial(state=optuna.trial.TrialState.PRUNED, **stopped))
    goal = ("rescore", "small", "--retain-weight", 0.2, "--min-retained", 0)
    assert [trial["trial"] for trial in json.loads(run(*goal, "--json").out)["better_by_estimate"]] == [2]
    said = run(*goal).out
    assert "stopped early, and better by their estimates" in said
    assert "rescore small --retain-weight 0.2 --min-retained 0" in said and "--evaluate" in said
    done = run(*goal, "--evaluate", "--json")
    assert done.code == 0, done.err
    found = json.loads(done.out)
    assert found["better_by_estimate"] == [] and len(found["trials"]) == 4
    added = load_study("small", open_storage(f"sqlite:///{tmp_path}/studies.db")).trials[3]
    assert added.params == params and read_trial(added)["exact"] and "stopped" not in read_trial(added)
    assert json.loads(run(*goal, "--json").out)["better_by_estimate"] == []


def test_a_checkpoint_that_is_not_there_is_noticed_before_anything_heavy_is_loaded(tmp_path):
    text = 'name = "x"\n[model]\ncheckpoint = "no.pt"\n[data]\nretain = "a"\nforget = "b"\n'
    (tmp_path / "study.toml").write_text(text)
    commands = ["study create", "spectrum", "study compete", "study compare --methods ssd,ft"]
    code = """
import sys, ssdtune.cli
for command in sys.argv[2:]:
    try:
        ssdtune.cli.main([*command.split(), sys.argv[1]])
    except SystemExit as stop:
        print(stop.code)
print(*sys.modules)"""
    words = [sys.executable, "-c", code, str(tmp_path / "study.toml"), *commands]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    line = f"error: cannot read (No such file or directory), {tmp_path / 'no.pt'}, check the path"
    assert done.stderr.splitlines() == [line] * len(commands)
    *codes, modules = done.stdout.splitlines()
    assert codes == ["3"] * len(commands)
    assert not {"torch", "optuna", "scipy", "matplotlib"} & set(modules.split())


def test_export(small, run, tmp_path):
    assert run("export", small, "--out", tmp_path / "s.json").code == 0
    told = json.loads(run("export", small, "--out", tmp_path / "s.csv", "--json").out)
    document = json.loads((tmp_path / "s.json").read_text())
    with (tmp_path / "s.csv").open() as file:
        scores = [float(row["score"]) for row in csv.DictReader(file)]
    assert scores == [trial["score"] for trial in document["trials"]]
    assert told == {"study": small, "file": str(tmp_path / "s.csv"), "trials": len(scores)}
    assert run("export", small, "--out", tmp_path / "s.txt").code == 2
    assert run("export", small, "--out", tmp_path / "s.csv" / "x.csv").code == 3


def test_delete_asks(small, run, monkeypatch):
    monkeypatch.setattr("click.confirm", lambda text, err: False)
    assert "kept" in run("delete", small).out
    assert small in run("list").out
    assert json.loads(run("delete", small, "--yes", "--json").out)["deleted"] is True
    assert run("list", "--json").out.strip() == "[]"
    assert run("delete", small, "--yes").code == 4


def test_apply_writes_a_checkpoint_that_fastmri_loads(small, run, inputs, tmp_path):
    out = tmp_path / "unlearned.pt"
    done = run("apply", small, "--out", out)
    assert done.code == 0, done.err
    assert "forget_ssim" in done.out and "_volume_" not in done.out
    assert "measures: ssdtune study show small\n" in done.out
    stock = VarNet(num_cascades=1, sens_chans=2, sens_pools=2, chans=2, pools=2)
    stock.load_state_dict(torch.load(out, weights_only=True), strict=True)
    original = torch.load(inputs / "model.pt", weights_only=True)
    changed = [name for name, value in stock.state_dict().items() if not torch.equal(value, original[name])]
    assert changed
    own = json.loads(run("best", small, "--json").out)
    provenance = read_provenance(out)
    assert provenance["trial"]["number"] == own["number"]
    assert provenance["trial"]["alpha"] == own["alpha"]
    assert provenance["study_file"]["name"] == "small"
    assert str(inputs) not in json.dumps(provenance)
    assert run("apply", small, "--trial", 99, "--out", tmp_path / "other.pt").code == 2
    assert "--overwrite" in run("apply", small, "--out", out).err
    assert run("apply", small, "--trial", 0, "--out", out, "--overwrite").code == 0
    done = run("apply", small, "--out", inputs / "model.pt", "--overwrite")
    assert done.code == 2
    assert "original checkpoint" in done.err


def test_apply_refuses_what_was_scored_with_another_analysis(small, run, tmp_path):
    """The selected fraction that was recorded is not the one that the analysis gives here."""
    with sqlite3.connect(tmp_path / "studies.db") as database:
        for number, text in database.execute(
            "select trial_user_attribute_id, value_json from trial_user_attributes where key = 'measures'"
        ).fetchall():
            values = json.loads(text)
            changed = json.dumps({**values, "rho": values["rho"] * 0.9})
            database.execute(
                "update trial_user_attributes set value_json = ? where trial_user_attribute_id = ?", [changed, number]
            )
    done = run("apply", small, "--trial", 0, "--out", tmp_path / "unlearned.pt")
    assert done.code == 3
    assert "was scored with rho" in done.err
    assert not (tmp_path / "unlearned.pt").exists()


def test_a_storage_whose_tables_are_gone_is_one_line(small, run, tmp_path):
    with sqlite3.connect(tmp_path / "studies.db") as database:
        database.execute("drop table trials")
    done = run("best", small)
    assert done.code == 4
    assert done.err.count("\n") == 1


def test_the_next_command_is_to_search_on_where_nothing_good_was_found(study, run):
    study.write_text(study.read_text().replace("alpha = [0.5, 20.0]", "alpha = [1e8, 1e9]"))  # selects nothing
    run("create", study, "--trials", 2)
    assert run("run", "small").out.splitlines()[-1] == "next: ssdtune study run small --trials 4"


def test_commands_in_hints_can_be_typed_for_a_study_that_the_dashboard_renamed(small, run, tmp_path):
    with sqlite3.connect(tmp_path / "studies.db") as database:
        database.execute("update studies set study_name = 'my study'")
    done = run("run", "my study")
    assert done.code == 0, done.err
    assert "ask for more with: ssdtune study run 'my study' --trials N" in done.err
    words = shlex.split(done.out.splitlines()[-1].removeprefix("next: "))
    assert words[:2] == ["ssdtune", "study"] and words[3] == "my study"


def test_exact_evaluates_every_slice_of_every_trial(study, run):
    run("create", study, "--name", "whole", "--trials", 2)
    done = run("run", "whole", "--exact", "--json")
    assert done.code == 0, done.err
    cost = json.loads(done.out)["cost"]
    assert (cost["slices"], cost["possible"], cost["exact"]) == (18, 18, 2)
    assert not cost["stopped"]
    assert "2 of 2 trials, without shortcuts" in run("show", "whole").out


def test_the_number_format_is_checked_and_said(study, run):
    run("create", study, "--name", "short", "--trials", 2)
    refused = run("run", "short", "--exact", "--precision", "bfloat16")
    assert refused.code == 2
    assert "--precision bfloat16, leave one of the two out" in refused.err
    done = run("run", "short", "--precision", "bfloat16")
    assert done.code == 0
    assert "computing in" in done.err
    trial = load_study("short", open_storage()).trials[0]
    taken = "bfloat16" if "computing in bfloat16" in done.err else None
    assert read_trial(trial).get("precision") == (None if read_trial(trial).get("reused_from") else taken)


def test_the_line_that_goes_on_repeats_what_was_typed(monkeypatch, tmp_path):
    monkeypatch.setenv("SSDTUNE_DATA", "elsewhere")  # and put back, as --data-root sets it
    options = ["--trials", "9", "--exact", "--ray", "--data-root", str(tmp_path), "--threads", "2"]
    with study_run.run.make_context("run", ["mine", "--json", "--storage", "sqlite:///a.db", *options]):
        again = typed_options()
        assert set(again) == set(options) and len(again) == len(options)
        assert again[again.index("--data-root") + 1] == str(tmp_path)
        assert "9" not in typed_options("trials")
    with study_run.run.make_context("run", ["mine", "--ray", "here:6379"]):
        assert typed_options() == ["--ray", "here:6379"]


def test_a_study_is_run_on_a_cluster(study, run, two_places, tmp_path):
    assert run("create", study, "--trials", 3).code == 0
    done = run("run", "small", "--ray", "--json")
    assert done.code == 0, done.err
    assert "ray: 2 processes, one for each CPU" in done.err
    assert len(load_study("small", open_storage(f"sqlite:///{tmp_path}/studies.db")).get_trials(states=FINISHED)) == 3
