"""Experience collected on a Ray cluster of this machine's."""

from dataclasses import replace

import pytest

from ssdtune.learning.collect import collect
from ssdtune.learning.recipes import draw_mri, draw_site
from ssdtune.prior.experience import Experience, load_collection
from ssdtune.study.cluster import Places
from ssdtune.study.collect_on_ray import gather_on

pytest.importorskip("ray", reason="Ray is not installed (extra ray)")


def test_a_collection_on_a_cluster_goes_on_where_it_was(two_places, tmp_path):
    site = replace(
        draw_site(0), size=32, coils=1, subjects=3, slices=1, cascades=1, channels=2, pools=1, epochs=1, batch_size=4
    )
    groups, made = [[draw_mri(site, number) for number in range(2)]], []

    def track(items, description, total):
        made.append(total)
        return iter(items)

    for left in (groups[0][:1], groups[0]):
        found = collect(tmp_path / "c.h5", [left], methods=[], gather=gather_on(Places()), track=track)
        assert sum(found) == len(left)
    assert made == [1, 1]
    records = list(load_collection(tmp_path / "c.h5"))
    assert [record.key for record in records] == [recipe.key for recipe in groups[0]]
    assert all(not record.responses for record in records if isinstance(record, Experience))
