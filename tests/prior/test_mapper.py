"""The mapper: what it must respect exactly, what it learns, and how it is kept."""

from dataclasses import replace

import numpy as np
import pytest

from ssdtune.errors import ConfigError, DataError
from ssdtune.learning.fit import fit
from ssdtune.learning.training import Recipe
from ssdtune.plane.settings import GRID_KAPPA, GRID_RHO
from ssdtune.prior.inputs import GROUPS, names
from ssdtune.prior.mapper import BUNDLED, SpectrumMapper
from ssdtune.prior.points import points
from ssdtune.prior.view import TaskView
from ssdtune.surrogate.belief import squash


def test_a_task_of_a_known_kind_is_foreseen(mapper, make_experience):
    """Better than the mean response of the experience, on tasks that it was not fitted to."""
    errors, plain = [], []
    mean = np.mean([squash(points(make_experience(seed=seed)).y).mean(axis=0) for seed in range(12)], axis=0)
    for seed in range(20, 26):
        task = points(make_experience(seed=seed))
        members = mapper.outputs(task.local, mapper.standard(task.global_), task.gate)
        members[..., 1] = 1 - (1 - members[..., 1]) / (1 - task.floor_ratio)
        errors.append(np.mean((squash(members).mean(axis=0) - squash(task.y)) ** 2))
        plain.append(np.mean((mean - squash(task.y)) ** 2))
    assert np.mean(errors) < 0.35 * np.mean(plain)


def test_nothing_selected_is_the_untouched_model_exactly(mapper, make_experience):
    task = points(make_experience(seed=3))
    members = mapper.outputs(task.local, mapper.standard(task.global_), np.zeros(len(task.gate)))
    assert (members == 1).all()
    surface = mapper.respond(TaskView.of_experience(make_experience(seed=3)))
    assert (surface.stacked[:, :, 0] == 1).all()
    assert (surface.residual_sd[:, 0] == 0).all()


def test_a_floor_needs_no_refitting(mapper, make_experience):
    """remembered = 1 - (1 - forget ratio) / (1 - floor ratio) for whatever floor is asked for."""
    view = TaskView.of_experience(make_experience(seed=4))
    far, near = (mapper.respond(replace(view, floor_ratio=floor)) for floor in (0.2, 0.6))
    assert near.remembered[:, -3, 0].mean() < far.remembered[:, -3, 0].mean()
    unknown = mapper.respond(replace(view, floor_ratio=None))
    assert np.isfinite(unknown.stacked).all()
    with pytest.raises(ConfigError, match="nothing to forget"):
        replace(view, floor_ratio=1.0)


def test_goals_need_no_refitting(mapper, make_experience):
    from ssdtune.prior.density import HyperparameterPrior

    prior = HyperparameterPrior(mapper.respond(TaskView.of_experience(make_experience(seed=5))), 0.2, 0.0)
    strict = prior.with_goal(0.2, 0.99)
    assert prior.mode["lambda"] / prior.mode["alpha"] <= 1
    assert strict.mode != prior.mode


def test_it_is_kept_whole_without_pickle(mapper, make_experience, tmp_path):
    path = tmp_path / "mapper.npz"
    mapper.save(path)
    with np.load(path, allow_pickle=False) as file:
        assert all(file[name].dtype != object for name in file.files)
    loaded = SpectrumMapper.load(path)
    assert loaded.version == mapper.version
    assert loaded.summary() == loaded.summary() | {"tasks": 12}
    view = TaskView.of_experience(make_experience(seed=6))
    np.testing.assert_allclose(loaded.respond(view).stacked, mapper.respond(view).stacked, atol=2e-3)
    assert loaded.held_out.summary() == pytest.approx(mapper.held_out.summary())


SHIPPED = BUNDLED.read_bytes()
SPOILED = SHIPPED[:5000] + bytes(100) + SHIPPED[5100:]
NEWER = SHIPPED.replace(b"PK\x01\x02", b"PK\x01\x02\xff\xff\xff\xff")


@pytest.mark.parametrize("content", [b"", b"not a mapper", SHIPPED[:5000], SHIPPED[:-9], SPOILED, NEWER])
def test_a_broken_file_is_one_clear_error(tmp_path, content):
    path = tmp_path / "mapper.npz"
    path.write_bytes(content)
    with pytest.raises(DataError, match="cannot read the mapper"):
        SpectrumMapper.load(path)
    with pytest.raises(DataError, match="cannot read the mapper"):
        SpectrumMapper.load(tmp_path / "absent.npz")


def test_a_mapper_of_another_feature_version_is_refused(mapper, tmp_path, monkeypatch):
    mapper.save(tmp_path / "mapper.npz")
    monkeypatch.setattr("ssdtune.prior.mapper.FEATURE_VERSION", 99)
    with pytest.raises(DataError, match="features version 1, not 99"):
        SpectrumMapper.load(tmp_path / "mapper.npz")


def test_a_strange_task_widens_and_is_trusted_less(mapper, make_experience):
    usual = TaskView.of_experience(make_experience(seed=8))
    strange = replace(usual, features={name: value + 40 for name, value in usual.features.items()})
    near, far = mapper.respond(usual), mapper.respond(strange)
    assert far.trust < 0.5 < near.trust
    assert far.residual_sd[0].max() > near.residual_sd[0].max()


@pytest.mark.parametrize("group", GROUPS)
def test_each_group_of_inputs_can_be_left_out(group, experiences):
    every, fewer = ([*local, *task] for local, task in (names(), names({group})))
    assert set(fewer) < set(every)
    if group in ("coordinates", "globals"):
        small = fit(experiences, without={group}, recipe=Recipe(networks=1, hidden=8, epochs=2))
        assert len(small.local.names) + len(small.global_.names) == len(fewer)
        assert np.isfinite(small.respond(TaskView.of_experience(experiences[0])).stacked).all()


def test_fitting_is_reproducible(experiences):
    quick = Recipe(networks=1, hidden=8, epochs=2)
    view = TaskView.of_experience(experiences[0])
    first, again, other = (fit(experiences, seed=seed, recipe=quick).respond(view).stacked for seed in (0, 0, 1))
    np.testing.assert_allclose(first, again, atol=1e-4)  # a CPU's rounding grows in training
    assert np.abs(first - other).max() > 1e-3


def test_too_little_experience_is_refused(experiences):
    with pytest.raises(DataError, match="too few to learn from"):
        fit(experiences[:3])
    with pytest.raises(DataError, match="1 families are too few"):
        fit([replace(each, family="one") for each in experiences])


def test_a_view_survives_json(make_experience):
    view = TaskView.of_experience(make_experience(seed=2))
    again = TaskView.from_json(view.to_json())
    assert again.features == pytest.approx(view.features)
    np.testing.assert_allclose(again.terms["forget_full"], view.terms["forget_full"], rtol=1e-6)
    with pytest.raises(ConfigError, match="not a task view"):
        TaskView.from_json({"features": {}})


def test_the_bundled_mapper_answers(make_experience):
    """It was fitted to at least the tasks that ship beside it, and foresees one of them."""
    bundled = SpectrumMapper.load()
    assert bundled.summary()["tasks"] >= 50
    assert BUNDLED.stat().st_size < 2e6
    view = TaskView.of_experience(make_experience(seed=1))
    surface = bundled.respond(view)
    assert surface.retained.shape[1:] == (GRID_RHO.size + 1, GRID_KAPPA.size)
