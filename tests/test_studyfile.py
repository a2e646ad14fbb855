"""The study file: what a good one gives, and one line for each way of being wrong."""

import pytest

from ssdtune.errors import ConfigError
from ssdtune.studyfile import DEFAULT_METHOD, StudyFile, load_study_file
from ssdtune.unlearning.methods import choose_method

GOOD = {
    "": ['name = "small"'],
    "model": ['checkpoint = "model.pt"'],
    "data": ['retain = "retain"', 'forget = "/elsewhere/forget"'],
}


def write(folder, changes=(), without=()):
    """A good file with lines added to sections, or without some of its keys."""
    sections = {name: list(lines) for name, lines in GOOD.items()}
    for section, line in changes:
        sections.setdefault(section, []).append(line)
    text = ""
    for section, lines in sections.items():
        text += f"[{section}]\n" if section else ""
        text += "".join(f"{line}\n" for line in lines if line.split(" ")[0] not in without)
    path = folder / "study.toml"
    path.write_text(text)
    return path


def test_a_short_file_gives_the_defaults_and_absolute_paths(tmp_path):
    study = load_study_file(write(tmp_path))
    assert study.model.checkpoint == tmp_path / "model.pt"
    assert study.data.retain == str(tmp_path / "retain")
    assert study.data.forget == "/elsewhere/forget"
    assert (study.model.oracle, study.data.clean, study.data.unknown) == (None, None, None)
    assert (study.score.retain_weight, study.score.min_retained, study.score.floor) == (0.2, 0.95, "auto")
    assert study.method.name == DEFAULT_METHOD
    choose_method(study.method.model_dump())


def test_a_home_folder_is_one_and_no_path_holds_a_zero_byte(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    changes = [("model", 'oracle = "~/oracle.pt"'), ("data", 'unknown = "~/x/*.h5"'), ("data", 'unseen = "./~/x"')]
    study = load_study_file(write(tmp_path, changes))
    assert study.model.oracle == tmp_path / "home" / "oracle.pt"
    assert study.data.unknown == str(tmp_path / "home" / "x" / "*.h5")
    assert study.data.unseen == str(tmp_path / "~" / "x")
    assert StudyFile.from_json(study.to_json()).data == study.data
    for section, key in (("model", "oracle"), ("data", "unseen")):
        with pytest.raises(ConfigError, match=rf"'{section}\.{key}'.*zero byte"):
            load_study_file(write(tmp_path, [(section, f'{key} = "a\\u0000b"')]))


def test_everything_given_is_taken(tmp_path):
    changes = [
        ("model", 'oracle = "oracle.pt"'),
        ("data", 'clean = "clean"'),
        ("mask", 'kind = "random"'),
        ("score", "floor = 1"),
        ("method", 'name = "ssd"'),
        ("method", "alpha = [1, 10]"),
        ("method", "lambda = [0.5, 2.5]"),
    ]
    study = load_study_file(write(tmp_path, changes))
    assert study.model.oracle == tmp_path / "oracle.pt"
    assert study.data.clean == tmp_path / "clean"
    assert study.score.floor == 1
    options = choose_method(study.method.model_dump()).options
    assert options.alpha == (1, 10)
    assert options.lam == (0.5, 2.5)


def test_json_reads_back(tmp_path):
    study = load_study_file(write(tmp_path, [("method", 'name = "ssd"'), ("method", "lambda = [0.5, 2.5]")]))
    assert StudyFile.from_json(study.to_json()) == study
    assert study.to_json()["method"]["lambda"] == [0.5, 2.5]


def test_a_file_from_before_there_were_methods_is_one_of_ssd(tmp_path):
    study = load_study_file(write(tmp_path, [("search", "alpha = [1, 10]"), ("search", "trials = 7")]))
    assert study.search.trials == 7
    assert study.method.model_dump() == {"name": "ssd", "alpha": [1, 10]}


# what is added to a good file, and what the message says
FAULTS = {
    "unknown key": (
        ("score", "retain_wieght = 0.5"),
        "unknown key 'score.retain_wieght'.*did you mean 'retain_weight'",
    ),
    "unknown key without a likeness": (("mask", "zzz = 1"), "valid keys: kind, acceleration, center_fraction"),
    "unknown section": (("modell", "a = 1"), "unknown key 'modell'.*did you mean 'model'"),
    "value for a section": (("", "mask = 3"), "'mask' = 3 is not valid.*a table"),
    "text for a number": (("search", 'trials = "30"'), "'search.trials' = '30' is not valid"),
    "true for a number": (("search", "trials = true"), "'search.trials' = True is not valid"),
    "fraction for a count": (("search", "trials = 3.5"), "'search.trials' = 3.5 is not valid"),
    "number for a path": (("data", "clean = 3"), "'data.clean' = 3 is not valid"),
    "date for a number": (("score", "retain_weight = 2020-01-01"), "'score.retain_weight'"),
    "too large": (
        ("score", "retain_weight = 1.5"),
        "'score.retain_weight' = 1.5 is not valid.*less than or equal to 1",
    ),
    "too small": (("mask", "acceleration = 0"), "'mask.acceleration' = 0 is not valid"),
    "not a number": (("score", "min_retained = nan"), "'score.min_retained'"),
    "infinite": (("fisher", "memory_budget_gib = inf"), "'fisher.memory_budget_gib'"),
    "no such choice": (
        ("search", 'sampler = "tpee"'),
        "'search.sampler' = 'tpee' is not valid.*did you mean 'tpe'",
    ),
    "neither name nor number": (
        ("score", 'floor = "oracel"'),
        "'score.floor' = 'oracel'.*did you mean 'oracle'\\?.*, or .*number",
    ),
    "number out of range, or a name": (
        ("score", "floor = 2"),
        "'score.floor' = 2 is .*'oracle'.*less than or equal to 1",
    ),
    "twice": (("data", 'retain = "x"'), "not valid TOML"),
    "no TOML": (("data", "retain"), "not valid TOML"),
}


@pytest.mark.parametrize("case", FAULTS)
def test_each_fault_is_one_line_that_names_key_and_file(case, tmp_path):
    change, message = FAULTS[case]
    path = write(tmp_path, [change])
    with pytest.raises(ConfigError, match=message) as error:
        load_study_file(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)
    assert "literal" not in str(error.value)


@pytest.mark.parametrize(
    ("key", "shown"), [("name", "name"), ("checkpoint", "model.checkpoint"), ("forget", "data.forget")]
)
def test_a_missing_key_is_named(key, shown, tmp_path):
    with pytest.raises(ConfigError, match=f"missing key '{shown}'"):
        load_study_file(write(tmp_path, without=[key]))


def test_a_misspelt_key_is_not_called_a_missing_one(tmp_path):
    with pytest.raises(ConfigError, match=r"unknown key 'data.forgot'.*did you mean 'forget'"):
        load_study_file(write(tmp_path, [("data", 'forgot = "forget"')], without=["forget"]))


@pytest.mark.parametrize("name", ["", "a/b", "-x", ".hidden", "a" * 201])
def test_a_name_that_no_file_could_have_is_refused(name, tmp_path):
    path = write(tmp_path, [("", f'name = "{name}"')], without=[])
    path.write_text(path.read_text().replace('name = "small"\n', ""))
    with pytest.raises(ConfigError, match=r"'name' = .*use at most 200 letters, digits"):
        load_study_file(path)


def test_files_that_cannot_be_read_are_refused(tmp_path, unprivileged):
    with pytest.raises(ConfigError, match="cannot read study file"):
        load_study_file(tmp_path / "absent.toml")
    with pytest.raises(ConfigError, match="cannot read study file"):
        load_study_file(tmp_path)
    binary = tmp_path / "binary.toml"
    binary.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="not valid TOML"):
        load_study_file(binary)
    closed = write(tmp_path)
    closed.chmod(0)
    with unprivileged(), pytest.raises(ConfigError, match="Permission denied"):
        load_study_file(closed)


def test_a_file_saved_by_windows_is_read(tmp_path):
    path = write(tmp_path, [])
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert load_study_file(path).name == "small"


def test_a_stored_study_file_keeps_its_paths_as_written_and_is_placed_on_each_machine(tmp_path, monkeypatch):
    monkeypatch.delenv("SSDTUNE_DATA", raising=False)
    study = load_study_file(write(tmp_path))
    stored = study.to_json()
    assert stored["data"]["retain"] == "retain" and stored["folder"] == str(tmp_path)
    assert StudyFile.from_json(stored) == study
    monkeypatch.setenv("SSDTUNE_DATA", str(tmp_path / "elsewhere"))
    placed = StudyFile.from_json(stored)
    assert placed.data.retain == str(tmp_path / "elsewhere" / "retain")
    assert {**placed.to_json(), "folder": ""} == {**stored, "folder": ""}
    assert load_study_file(tmp_path / "study.toml").data.retain == placed.data.retain
