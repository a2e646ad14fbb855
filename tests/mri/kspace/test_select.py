"""Sets of a study by their files' headers: one scanner, a number of coils; and what is refused."""

import json

import pytest

from ssdtune.errors import ConfigError, DataError
from ssdtune.mri.kspace.select import set_files
from ssdtune.mri.kspace.write import ismrmrd_header, write_volume
from ssdtune.mri.phantom.simulate import simulate_volume
from ssdtune.studyfile import StudyFile, load_study_file


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Four scans of 2 or 3 coils by two scanners."""
    place = tmp_path_factory.mktemp("scans")
    for number, (coils, model) in enumerate([(2, "Aera"), (2, "Skyra"), (3, "Skyra"), (3, "Skyra")]):
        volume = simulate_volume(size=32, slices=1, coils=coils, subject=number)
        header = ismrmrd_header(volume.kspace.shape, volume.voxel_mm)
        header = header.replace("<receiverChannels>", f"<systemModel>{model}</systemModel><receiverChannels>")
        write_volume(place / f"train/{number}.h5", volume.kspace, volume.target, acquisition="AXT1", header=header)
    (place / "model.pt").touch()
    return place


def data_of(folder, tmp_path, **sets):
    lines = "\n".join(f"{name} = {value}" for name, value in sets.items())
    path = tmp_path / "study.toml"
    path.write_text(
        f'name = "one"\n[model]\ncheckpoint = "m.pt"\n[data]\n{lines}\n'.replace("TRAIN", f"{folder}/train")
    )
    return load_study_file(path)


@pytest.mark.parametrize(
    ("condition", "chosen"),
    [
        ("systemModel = Aera", "0"),
        ("systemModel != 'Aera'", "123"),
        ("coils > 2", "23"),
        ("receiverChannels<=2", "01"),
        ("acquisitionSystemInformation/receiverChannels = 3.0", "23"),
        ("reconSpace/matrixSize/x >= 32", None),
        ("patient_id = 2", "2"),
    ],
)
def test_files_are_chosen_by_their_header_and_leave_the_retain_set(folder, tmp_path, condition, chosen):
    study = data_of(folder, tmp_path, retain='"TRAIN"', forget=f'{{header = "{condition}"}}')
    if chosen is None:
        with pytest.raises(DataError, match="retain set: every file was selected"):
            set_files(study.data)
        return
    files = {name: "".join(file.stem for file in found) for name, found in set_files(study.data).items()}
    assert files["forget"] == chosen
    assert files["retain"] == "".join(sorted(set("0123") - set(chosen)))


def test_other_files_and_a_selected_retain_set(folder, tmp_path):
    study = data_of(
        folder,
        tmp_path,
        retain='{files = "TRAIN", header = "systemModel = Skyra"}',
        forget='{files = "TRAIN", header = "systemModel = Aera"}',
        unknown='{header = "coils = 2"}',
    )
    files = {name: [file.stem for file in found] for name, found in set_files(study.data).items()}
    assert files == {"retain": ["2", "3"], "forget": ["0"], "unknown": ["1"]}


def test_a_stored_study_has_it_as_it_was_written(folder, tmp_path):
    study = data_of(folder, tmp_path, retain='"TRAIN"', forget='{header = "coils = 3", files = "more"}')
    stored = json.loads(json.dumps(study.to_json()))
    assert stored["data"]["forget"] == {"header": "coils = 3", "files": "more"}
    assert StudyFile.from_json(stored).data == study.data


@pytest.mark.parametrize(
    ("forget", "error", "message"),
    [
        ('{header = "coils 3"}', ConfigError, "no condition"),
        ('{header = "= 3"}', ConfigError, "no condition"),
        ('{headr = "coils = 3"}', ConfigError, "a table takes header"),
        ('{header = "coils = 3", file = "x"}', ConfigError, "a table takes header"),
        ("{header = 3}", ConfigError, "give a text, or a table"),
        ("3", ConfigError, "give a text, or a table"),
        ('{header = "systemModl = Aera"}', DataError, "no file has a field 'systemModl'"),
        ('{header = "systemModel = Prisma"}', DataError, "there are Aera, Skyra"),
        ('{header = "x = 3"}', DataError, "write more of its path"),
        ('{header = "coils = 3", files = "nowhere"}', DataError, "no such file"),
    ],
)
def test_what_is_wrong_is_said(folder, tmp_path, forget, error, message):
    with pytest.raises(error, match=message) as caught:
        set_files(data_of(folder, tmp_path, retain='"TRAIN"', forget=forget).data)
    assert "forget" in str(caught.value) and "\n" not in str(caught.value)


def test_a_header_that_is_no_xml_is_refused(folder, tmp_path):
    volume = simulate_volume(size=32, slices=1, coils=2)
    write_volume(tmp_path / "bad/a.h5", volume.kspace, volume.target, header="<a>")
    data = data_of(folder, tmp_path, retain='"bad"', forget='{header = "systemModel = Aera"}').data
    with pytest.raises(DataError, match="header is not valid"):
        set_files(data)


def test_the_retain_set_is_selected_of_files(folder, tmp_path):
    with pytest.raises(ConfigError, match="name them, as files"):
        data_of(folder, tmp_path, retain='{header = "coils = 3"}', forget='"TRAIN"')


def test_a_file_is_the_same_by_another_way_to_it(folder, tmp_path):
    sets = {"retain": f'"{folder}/train/../train"', "forget": f'{{header = "coils > 2", files = "{folder}/train"}}'}
    files = set_files(data_of(folder, tmp_path, **sets).data)
    assert [len(found) for found in files.values()] == [2, 2]
