"""A study file as a task: what it holds, and what is refused before the long work."""

import shutil
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
import torch
from fastmri.models import Unet, VarNet

import ssdtune
from ssdtune.errors import ConfigError, DataError, ModelError
from ssdtune.mri.task import load_task
from ssdtune.objective.evaluation import evaluate
from ssdtune.studyfile import load_study_file

STUDY = """
name = "small"
[model]
checkpoint = "model.pt"
{model}
[data]
retain = "retain"
forget = "forget/*.h5"
retain_heldout = "heldout.txt"
unknown = "unknown"
{data}
[mask]
acceleration = 3
center_fraction = 0.12
"""


def small_varnet(seed=0, chans=2):
    torch.manual_seed(seed)
    return VarNet(num_cascades=1, sens_chans=2, sens_pools=2, chans=chans, pools=2)


@pytest.fixture
def make(tmp_path, fastmri_file):
    """A folder with model, sets of different sizes and a study file; ``make.study(model=, data=)`` writes another."""
    torch.save(small_varnet().state_dict(), tmp_path / "model.pt")
    fastmri_file(tmp_path / "retain" / "a.h5", slices=2, seed=1)
    fastmri_file(tmp_path / "retain" / "b.h5", slices=1, coils=3, shape=(40, 36), seed=2)
    fastmri_file(tmp_path / "more" / "held.h5", slices=2, seed=3)
    fastmri_file(tmp_path / "forget" / "f.h5", slices=2, seed=4, clean=True)
    fastmri_file(tmp_path / "unknown" / "u.h5", slices=3, seed=5, clean=True)
    (tmp_path / "heldout.txt").write_text("more/held.h5\n")

    def study(model="", data=""):
        path = tmp_path / "study.toml"
        path.write_text(STUDY.format(model=model, data=data))
        return path

    study()
    return SimpleNamespace(folder=tmp_path, study=study, file=fastmri_file, path=tmp_path / "study.toml")


def test_a_task_holds_what_the_study_names(make):
    task = ssdtune.load_task(make.path)
    assert {name: len(samples) for name, samples in task.scored_sets.items()} == {
        "retain": 2,
        "forget": 2,
        "unknown": 3,
    }
    assert len(task.retain) == 3
    assert task.retain.ids == ["a.h5:0", "a.h5:1", "b.h5:0"]
    assert (task.name, task.loss_name, task.known_share, task.phi) == ("small", "ssim", 0.4, 0.4)
    assert next(iter(task.params)).startswith("net.")
    assert load_task(load_study_file(make.path)).identity == task.identity


def test_a_slice_that_is_twice_in_a_set_is_refused(make):
    shutil.copy(make.folder / "retain" / "a.h5", make.folder / "retain" / "copy.h5")
    with pytest.raises(DataError, match=r"the retain set holds a slice twice .same k-space: a.h5:0 and copy.h5:0"):
        load_task(make.path)


def test_a_subject_in_two_sets_is_said(make):
    said = []
    load_task(make.path, say=said.append)
    assert said == []
    with h5py.File(make.folder / "more" / "held.h5", "r+") as file:
        file.attrs["patient_id"] = np.bytes_("b")
    load_task(make.path, say=said.append)
    assert said == ["1 subjects are in the retain and in the retain_heldout set, such as b (b.h5 and held.h5)"]
    said.clear()
    load_task(make.study(data='subject = "^[a-z]"'), say=said.append)
    assert said == []
    load_task(make.study(data="subject = '[.]h5'"), say=said.append)
    assert len(said) == 6
    with pytest.raises(ConfigError, match=r"data.subject.*no regular expression"):
        load_study_file(make.study(data='subject = "("'))


def test_faulty_files_and_slices_are_left_out_on_request(make):
    with h5py.File(make.folder / "retain" / "a.h5", "r+") as file:
        file["kspace"][1] = 0
    (make.folder / "unknown" / "bad.h5").write_text("nothing")
    with pytest.raises(DataError, match="k-space of slice 1 is all zero"):
        load_task(make.path)
    said = []
    task = load_task(make.study(data="skip_faulty = true"), say=said.append)
    assert task.retain.ids == ["a.h5:0", "b.h5:0"]
    assert len(task.evaluation["unknown"]) == 3
    assert len(said) == 2


def test_the_task_is_scored_with_all_measures(make):
    measures = evaluate(load_task(make.path))
    names = list(measures.values["retain"])
    assert names[:3] == ["ssim", "psnr", "nmse"]
    assert list(measures.values["forget"]) == [*names, *(f"clean_{name}" for name in names)]
    assert measures.finite


def test_the_model_is_the_stock_one(make):
    task = load_task(make.path)
    inputs, _ = task.forget[0]
    stock = small_varnet().eval()
    with torch.no_grad():
        ours = task.predict(None, tuple(value[None] for value in inputs))
        assert torch.allclose(ours, stock(inputs[0][None], inputs[1][None], round(48 * 0.12)), atol=1e-7 * ours.max())


def test_a_unet_makes_a_task_of_images(make):
    torch.manual_seed(0)
    torch.save(Unet(1, 1, chans=2, num_pool_layers=2).state_dict(), make.folder / "model.pt")
    task = load_task(make.path)
    assert [tuple(value.shape) for value in task.forget[0][0]] == [(48, 48), (), ()]
    assert evaluate(task).finite


def test_floors_without_an_oracle_come_in_order_of_preference(make):
    task = load_task(make.path)
    assert list(task.floor_sources) == ["clean", "zero-filled"]
    clean, zero_filled = (source(0.9) for source in task.floor_sources.values())
    assert clean == pytest.approx(0.9 * task.floor_sources["clean"](1.0))
    assert 0 < clean < 0.9
    assert 0 < zero_filled < 1
    with h5py.File(make.folder / "forget" / "f.h5", "r+") as file:
        del file["reconstruction_rss_clean"]
    assert list(load_task(make.path).floor_sources) == ["zero-filled"]


def test_clean_targets_may_lie_in_a_folder(make):
    for name, seed in (("f", 4), ("u", 5)):
        make.file(make.folder / "clean" / f"{name}.h5", slices=2 if name == "f" else 3, seed=seed)
    own = load_task(make.path)
    beside = load_task(make.study(data='clean = "clean"'))
    assert torch.equal(own.forget[1][1]["clean"], beside.forget[1][1]["clean"])
    assert not beside.retain.has_clean


def test_an_oracle_is_loaded_and_has_the_model_s_sizes(make):
    study = make.study(model='oracle = "oracle.pt"')
    state = small_varnet(seed=1).state_dict()
    torch.save(state, make.folder / "oracle.pt")
    task = load_task(study)
    assert all(torch.equal(value, state[name]) for name, value in task.oracle.net.state_dict().items())
    assert "oracle" in task.identity
    torch.save(small_varnet(chans=4).state_dict(), make.folder / "oracle.pt")
    with pytest.raises(ModelError, match="the oracle is another network"):
        load_task(study)


@pytest.mark.parametrize(
    ("one", "other"), [("retain/a.h5", "forget"), ("retain/b.h5", "unknown"), ("forget/f.h5", "unknown")]
)
def test_sets_that_share_a_file_under_another_name_are_refused(one, other, make):
    shutil.copy(make.folder / one, make.folder / other / "z.h5")
    with pytest.raises(DataError, match=r"sets share \d slices? .*z\.h5:0"):
        load_task(make.path)


def test_a_poisoned_copy_of_a_retain_file_is_still_the_same_acquisition(make):
    make.file(make.folder / "forget" / "z.h5", slices=2, seed=1, clean=True)
    with pytest.raises(DataError, match=r"the retain and forget sets share 2 slices .*a\.h5:0 and z\.h5:0"):
        load_task(make.path)


def test_one_shared_slice_in_other_company_is_found(make):
    with (
        h5py.File(make.folder / "retain" / "a.h5") as retain,
        h5py.File(make.folder / "forget" / "f.h5", "r+") as forget,
    ):
        forget["kspace"][1] = retain["kspace"][0]
    with pytest.raises(DataError, match=r"share 1 slice \(.*a\.h5:0 and f\.h5:1"):
        load_task(make.path)


def test_held_out_slices_are_not_in_the_retain_set(make):
    (make.folder / "heldout.txt").write_text("retain/a.h5\n")
    with pytest.raises(DataError, match="the retain and retain_heldout sets share"):
        load_task(make.path)


def empty_forget(folder):
    (folder / "forget" / "f.h5").unlink()


def no_slices(folder):
    with h5py.File(folder / "forget" / "f.h5", "r+") as file:
        del file["kspace"]
        file["kspace"] = np.zeros((0, 4, 48, 48), np.complex64)


def absent_retain(folder):
    (folder / "retain").rename(folder / "elsewhere")


def absent_in_list(folder):
    (folder / "heldout.txt").write_text("more/absent.h5\n")


def truncated(folder):
    path = folder / "retain" / "a.h5"
    path.write_bytes(path.read_bytes()[:-5000])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (empty_forget, "forget set: no HDF5 files"),
        (no_slices, "no slices"),
        (absent_retain, "retain set: no such file or folder"),
        (absent_in_list, "retain_heldout set: no such file '.*absent.h5'"),
        (truncated, "HDF5 file"),
    ],
)
def test_bad_sets_are_one_line(damage, message, make):
    damage(make.folder)
    with pytest.raises(DataError, match=message) as error:
        load_task(make.path)
    assert "\n" not in str(error.value)


def test_a_model_of_another_architecture_is_refused(make):
    study = make.study(model='architecture = "unet"')
    with pytest.raises(ModelError, match="holds a VarNet, not a U-Net"):
        load_task(study)


def test_a_model_that_breaks_on_the_data_is_refused(make):
    state = small_varnet().state_dict()
    state["cascades.0.model.unet.up_conv.1.1.weight"].fill_(1e38)
    torch.save(state, make.folder / "model.pt")
    with pytest.raises(ModelError, match=r"the untouched model gives non-finite output, .*model\.pt on a\.h5:0"):
        load_task(make.path)


def test_a_model_too_deep_for_the_images_is_refused(make):
    deep = VarNet(num_cascades=1, sens_chans=1, sens_pools=7, chans=1, pools=7)
    torch.save(deep.state_dict(), make.folder / "model.pt")
    with pytest.raises(ModelError, match="the model does not fit the data"):
        load_task(make.path)


def test_a_device_that_is_not_there_is_refused(make):
    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    with pytest.raises(ConfigError, match="no such cuda device"):
        load_task(make.path, device="cuda")


def test_a_checkpoint_that_is_not_there_is_refused_before_any_file_is_read(make):
    (make.folder / "model.pt").unlink()
    with pytest.raises(ModelError, match=r"model\.pt"):
        load_task(make.path, track=lambda *_: pytest.fail("read"))


def test_tracks_show_the_files_of_each_set(make):
    seen = []

    def track(items, description, total):
        seen.append((description, total))
        return iter(items)

    load_task(make.path, track=track)
    assert seen == [
        ("reading retain", 2),
        ("reading forget", 1),
        ("reading retain_heldout", 1),
        ("reading unknown", 1),
    ]
