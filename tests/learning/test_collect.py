"""Recipes, experience and its collection."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from ssdtune.errors import DataError
from ssdtune.fisher.analysis import analyse
from ssdtune.learning import collect
from ssdtune.learning.design import CHECKS, NODES
from ssdtune.learning.making import make_site
from ssdtune.learning.recipes import as_users_train, collection, draw_mri, draw_site, draw_vision
from ssdtune.learning.responses import SETTINGS, design
from ssdtune.mri.kspace.masking import sampled_lines
from ssdtune.prior.experience import Experience, Rejected, load_collection, save_collection
from ssdtune.studyfile import MaskSection
from ssdtune.task import Task
from ssdtune.unlearning.methods import find_method
from ssdtune.vision.forgetting import accuracy


def tiny_site():
    return replace(
        draw_site(0), size=32, coils=1, subjects=3, slices=1, cascades=1, channels=2, pools=1, epochs=1, batch_size=4
    )


@pytest.fixture
def forgetful_task():
    """A classifier of three classes, the third of which its oracle has never seen."""
    torch.manual_seed(0)
    centres = torch.tensor([[2.0, 0.0], [-2.0, 1.0], [0.0, -2.5]])
    y = torch.arange(3).repeat_interleave(12)
    x = centres[y] + 0.5 * torch.randn(36, 2)
    models = []
    for seen in (36, 24):
        model = nn.Sequential(nn.Linear(2, 16), nn.Tanh(), nn.Linear(16, 3))
        optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
        for _ in range(60):
            optimizer.zero_grad()
            cross_entropy(model(x[:seen]), y[:seen]).backward()
            optimizer.step()
        models.append(model)
    data = list(zip(x, y, strict=True))
    return Task(
        model=models[0],
        oracle=models[1],
        loss=cross_entropy,
        quality=accuracy,
        retain=data[:24],
        forget=data[24:],
        name="toy",
    )


def test_recipes_are_drawn_by_number():
    assert draw_site(3) == draw_site(3)
    assert draw_site(3) != draw_site(3, seed=1)
    assert draw_vision(2) == draw_vision(2)
    assert collection(range(3), 2, 1)[4] == collection(range(5), 2, 0)[4] == collection([2], 2, 0)[0]


def test_a_site_has_different_corruptions_of_data_that_its_retain_set_has_not():
    site = draw_site(1)
    tasks = [draw_mri(site, number) for number in range(7)]
    assert len({task.corruption for task in tasks}) == 7
    for task in tasks:
        assert (task.forget_anatomy, task.forget_contrast) != (site.anatomy, site.contrast)
        assert 0.03 <= task.poisoned_share <= 0.4


def test_a_task_becomes_an_experience_that_survives_the_file(forgetful_task, tmp_path):
    recipe = draw_vision(0)
    found = collect.observe(forgetful_task, recipe)
    assert isinstance(found, Experience)
    assert found.baseline["forget_quality"] - found.floor > collect.MIN_GAP
    assert found.alpha.shape == (NODES + CHECKS,)
    assert (found.lam <= found.alpha * (1 + 1e-9)).all()
    save_collection(tmp_path / "c.h5", [found, Rejected("z", "f", {}, "gap")])
    kept, rejected = load_collection(tmp_path / "c.h5")
    assert rejected == Rejected("z", "f", {}, "gap")
    assert kept.recipe == found.recipe
    assert kept.features == pytest.approx(found.features)
    np.testing.assert_allclose(kept.forget_ratio, found.forget_ratio, rtol=1e-6)
    np.testing.assert_allclose(kept.tables["grid_forget_full"], found.tables["grid_forget_full"], rtol=1e-6)
    assert set(kept.responses) == set(SETTINGS)
    for name, count in SETTINGS.items():
        one, other = kept.responses[name], found.responses[name]
        assert len(one.passes) == count
        assert {*one.knobs} == {knob.name for knob in find_method(name).knobs(find_method(name).Options())}
        np.testing.assert_allclose(one.measures["forget_quality"], other.measures["forget_quality"], rtol=1e-6)
    # the rate's unit is that of a step whose worst predicted damage is the retain loss
    damage = kept.scales["rate_unit"] ** 2 * kept.scales["parameters"] * kept.scales["largest_eigenvalue"] / 2
    assert damage == pytest.approx(kept.scales["retain_loss"], rel=1e-4)


def test_half_of_a_design_is_shared_by_all_tasks_and_inside_the_knobs(forgetful_task):
    analysis, method = analyse(forgetful_task), find_method("spectral")
    one, other = (design(method, 20, analysis, key) for key in ("a", "b"))
    published = len(method.published(method.Options()))
    common = published + (20 - published) // 2
    assert one[:common] == other[:common]
    assert all(a != b for a, b in zip(one[common:], other[common:], strict=True))
    for setting in one:
        assert all(knob.clip(setting[knob.name]) == setting[knob.name] for knob in method.knobs(method.Options()))


def test_a_repair_is_spread_over_what_ssd_selects(forgetful_task):
    analysis = analyse(forgetful_task)
    alphas = [setting["alpha"] for setting in design(find_method("ssd-repair"), 24, analysis, "a")[1:]]
    selected = [analysis.damage(alpha, alpha).selected_fraction for alpha in alphas]
    assert np.ptp(np.log10(np.maximum(selected, 1e-3))) > 1


def test_a_training_that_draws_masks_sees_other_ones_each_epoch():
    site = as_users_train(replace(tiny_site(), subjects=1, epochs=3))
    drawn = make_site(site).drawn
    masks = [drawn.for_epoch(epoch)[0][0][1] for epoch in range(4)]
    assert not all(torch.equal(masks[0], mask) for mask in masks[1:3])
    assert torch.equal(masks[0], masks[3])  # three draws, in turn
    fixed = make_site(replace(site, new_masks=False))
    assert torch.equal(fixed.drawn.for_epoch(5)[0][0][0], fixed.retain[0][0][0])


def test_the_tasks_of_a_site_are_trained_from_several_seeds():
    groups = collection(range(1), 7, 0)
    assert [len(group) for group in groups] == [3, 2, 2]
    assert sorted(recipe.number for group in groups for recipe in group) == list(range(7))
    assert len({group[0].site for group in groups}) == 3


def test_a_dampening_that_selects_nothing_leaves_the_ratios_at_one(forgetful_task):
    found = collect.observe(forgetful_task, draw_vision(0), methods=())
    untouched = found.tables["design_selected_fraction"] == 0
    assert np.all(found.retain_ratio[untouched] == 1)
    assert np.all(found.forget_ratio[untouched] == 1)


def test_a_task_with_nothing_to_forget_is_rejected(forgetful_task):
    found = collect.observe(replace(forgetful_task, oracle=forgetful_task.model), draw_vision(0))
    assert isinstance(found, Rejected)
    assert "below 0.05" in found.reason


def test_a_group_goes_on_where_it_was_stopped(tmp_path):
    recipes = [draw_mri(tiny_site(), number) for number in range(2)]
    collect.collect_group(recipes[:1], tmp_path, {}, methods=())
    first = tmp_path / f"{recipes[0].key}.h5"
    stamp = first.stat().st_mtime_ns
    collect.collect_group(recipes, tmp_path, {}, methods=())
    assert first.stat().st_mtime_ns == stamp
    assert sorted(p.name for p in tmp_path.iterdir()) == [f"{recipe.key}.h5" for recipe in recipes]


def test_the_same_recipe_makes_the_same_task(tmp_path):
    recipe = draw_mri(tiny_site(), 0)
    found = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        collect.collect_group([recipe], tmp_path / name, {}, methods=())
        found += load_collection(tmp_path / name / f"{recipe.key}.h5")
    if isinstance(found[0], Experience):
        np.testing.assert_allclose(found[0].alpha, found[1].alpha, rtol=0.02)  # to where rounding grows in a training
    else:
        assert found[0] == found[1]


def test_missing_images_and_broken_collections_are_refused(tmp_path):
    with pytest.raises(DataError, match="no images of mnist"):
        collect.collect(tmp_path / "c.h5", [[draw_vision(0)]])
    (tmp_path / "c.h5").write_text("no")
    with pytest.raises(DataError, match="cannot read the collection"):
        list(load_collection(tmp_path / "c.h5"))


def test_every_site_of_a_collection_has_a_mask_that_can_be_drawn():
    for number in range(40):
        site = as_users_train(draw_site(number))
        spec = MaskSection(kind=site.mask, acceleration=site.acceleration, center_fraction=site.center_fraction)
        assert 0 < sampled_lines(spec, site.size, "brain_t1_0.h5").sum() < site.size
