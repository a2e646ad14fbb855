"""ssdtune prior: collect, fit, show, evaluate, from the command line."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from ssdtune.cli import main
from ssdtune.cli.prior import Sites
from ssdtune.device import set_threads
from ssdtune.learning import recipes
from ssdtune.prior.experience import BUNDLED, Experience, load_collection, save_collection
from ssdtune.prior.mapper import SpectrumMapper


@pytest.fixture(scope="module")
def collection(tmp_path_factory):
    """Eight of the tasks that ship with ssdtune, of at least two families."""
    chosen = {}
    for record in load_collection(BUNDLED):
        if isinstance(record, Experience) and sum(each.family == record.family for each in chosen.values()) < 2:
            chosen[record.key] = record
        if len(chosen) == 8:
            break
    path = tmp_path_factory.mktemp("prior") / "collection.h5"
    save_collection(path, chosen.values())
    return path


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield
    set_threads(before)


def test_fit_show_and_evaluate(collection, tmp_path, capsys, threads):
    out = tmp_path / "mapper.npz"
    torch.set_num_threads(2)
    main_ok(["prior", "fit", "--collection", str(collection), "--out", str(out), "--json"])
    fitted = json.loads(capsys.readouterr().out)
    assert fitted["tasks"] == 8
    assert torch.get_num_threads() == 1
    assert fitted["version"] == SpectrumMapper.load(out).version

    page = tmp_path / "show.html"
    main_ok(["prior", "show", "--mapper", str(out), "--html", str(page), "--json"])
    shown = json.loads(capsys.readouterr().out)
    assert shown["held_out"]["tasks"] == 8
    assert "prior-calibration" in page.read_text()

    main_ok(["prior", "evaluate", "--collection", str(collection), "--json"])
    assert json.loads(capsys.readouterr().out) == shown["held_out"]


def test_a_collection_on_ray_goes_on_where_it_was(two_places, tmp_path, capsys, monkeypatch):
    draw, small = recipes.draw_site, {"size": 32, "coils": 1, "subjects": 3, "slices": 1, "cascades": 1, "channels": 2}
    small |= {"pools": 1, "epochs": 1, "batch_size": 4}
    monkeypatch.setattr(recipes, "draw_site", lambda *given: replace(draw(*given), **small))
    file, made = tmp_path / "tasks.h5", []
    for tasks, where in ((1, []), (2, ["--ray"])):
        asked = ["--out", file, "--sites", 1, "--tasks", tasks, "--methods", "ssd", "--json", *where]
        main_ok(["prior", "collect", *map(str, asked)])
        done = capsys.readouterr()
        assert ("ray: 2 processes, one for each CPU" in done.err) == bool(where)
        document = json.loads(done.out)
        assert (document["file"], document["valid"] + document["rejected"]) == (str(file), tasks)
        keys = [recipe.key for group in recipes.collection([0], tasks, 0) for recipe in group]
        records = list(load_collection(file))
        assert [record.key for record in records] == keys
        assert all(not record.responses for record in records if isinstance(record, Experience))
        made.append({part.name: part.stat().st_mtime_ns for part in Path(f"{file}.parts").glob("*.h5")})
    assert made[0].items() < made[1].items() and len(made[1]) == 2


def test_show_prints_the_bundled_mapper(capsys):
    main_ok(["prior", "show"])
    out = capsys.readouterr().out
    assert SpectrumMapper.load().version in out
    assert "coverage90_retained" in out
    assert not re.search(r"\d\.\d{8}", out), "no digits that float32 does not have"
    main_ok(["prior", "show", "--json"])
    shown = str(json.loads(capsys.readouterr().out)["length_scales_decades"])
    assert re.search(r"\d", shown) and not re.search(r"\d\.\d{8}", shown)


def test_a_mapper_is_printed_in_a_line():
    assert str(SpectrumMapper.load()) == f"SpectrumMapper(version='{SpectrumMapper.load().version}', tasks=153)"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["fit", "--collection", "absent.h5", "--out", "m.npz"], "error: cannot read the collection"),
        (["show", "--mapper", "absent.npz"], "error: cannot read the mapper"),
        (["evaluate", "--collection", "absent.h5"], "error: cannot read the collection"),
        (["collect", "--out", "c.h5", "--sites", "0", "--vision", "1"], "error: no images of mnist"),
    ],
)
def test_bad_input_is_one_line(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stopped:
        main(["prior", *arguments])
    assert stopped.value.code == 3
    err = capsys.readouterr().err
    assert err.startswith(message)
    assert len(err.strip().splitlines()) == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("sites", ["5-2", "-1", "", "3,x", "1-2-3"])
def test_sites_that_are_no_numbers_are_refused(tmp_path, monkeypatch, capsys, sites):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stopped:
        main(["prior", "collect", "--out", "c.h5", f"--sites={sites}"])
    assert stopped.value.code == 2
    assert f"'{sites}' is neither a number nor a list such as 0-5,10" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_sites_are_a_number_or_a_list():
    sites = Sites()
    assert sites.convert("3", None, None) == [0, 1, 2]
    assert sites.convert("0-2, 7,5-6,6", None, None) == [0, 1, 2, 5, 6, 7]


def main_ok(arguments):
    try:
        main(arguments)
    except SystemExit as stopped:
        assert not stopped.code
