"""Parts of an analysis as files: together they are the whole; what does not go together is refused."""

from dataclasses import replace

import h5py
import numpy as np
import pytest
from same_analysis import assert_same

from ssdtune.errors import DataError, ModelError
from ssdtune.fisher.analysis import analyse, fisher_identity
from ssdtune.fisher.crew import Work
from ssdtune.fisher.sites import merge_parts, write_part

pytestmark = pytest.mark.filterwarnings("ignore::ssdtune.fisher.analysis.FisherWarning")


@pytest.fixture
def written(tmp_path):
    """``written(task, part=1, of=1, size=1) -> path``"""

    def write(task, part=1, of=1, size=1, most=512, **how):
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.part"
        write_part(path, Work(task, size, most, 2.0**30), "batch" if size > 1 else "per-sample", part, of, how)
        return path

    return write


def test_parts_of_a_study_in_any_order_are_the_study(make, written):
    task = make.perceptron(retain=22, forget=13, known_share=0.5)
    paths = [written(task, part, 3, most=9) for part in (3, 1, 2)]
    found = merge_parts(paths, groups="layer")
    whole = analyse(task, groups="layer", max_gram_samples=9)
    assert_same(found, whole, ids=False)
    assert found.identity == whole.identity


def test_sites_are_one_after_the_other_the_whole_and_no_name_leaves_one(make, written):
    class Named(list):
        ids = property(lambda self: [f"Smith{number}" for number in range(len(self))])

    samples = make.samples(20, 3), make.samples(13, 4)
    task = make.perceptron(retain=samples[0], forget=samples[1])
    sites = [(slice(0, 8), slice(0, 4)), (slice(8, 20), slice(4, 13))]
    tasks = [replace(task, retain=Named(samples[0][r]), forget=Named(samples[1][f])) for r, f in sites]
    paths = [written(each) for each in tasks]
    found = merge_parts(paths, denominator="full")
    assert_same(found, analyse(task, denominator="full"), ids=False)
    assert found.identity["model"] == analyse(task).identity["model"]
    assert found.forget.ids[3:5] == ["1:3", "2:0"]
    assert not any(b"Smith" in path.read_bytes() for path in paths)


def test_mini_batches_of_sites_are_units(make, written):
    samples = make.samples(12, 3), make.samples(8, 4)
    task = make.perceptron(retain=samples[0], forget=samples[1])
    tasks = [replace(task, retain=samples[0][p : p + 8], forget=samples[1][q : q + 4]) for p, q in ((0, 0), (8, 4))]
    found = merge_parts([written(each, size=4) for each in tasks])
    assert_same(found, analyse(task, definition="batch", batch_size=4), ids=False)


def test_parts_that_do_not_go_together_are_refused(make, written):
    task = make.perceptron()
    one, two = written(task, 1, 2), written(task, 2, 2)
    for paths, words in (
        ([one], "give each of the 2 parts"),
        ([one, one], "give each of the 2 parts"),
        ([one, written(make.perceptron(retain=9), 2, 2)], "of another retain set"),
        ([one, written(task, 2, 3)], "part 2/3 beside one of 2"),
        ([one, written(task, 2, 2, size=2)], "definition is batch, per-sample in"),
        ([written(task, 1, 2, mask="4x"), written(task, 2, 2, mask="8x")], "mask is 8x, 4x in"),
        ([written(task), written(task)], "the same data twice"),
    ):
        with pytest.raises(DataError, match=words):
            merge_parts(paths)
    with pytest.raises(ModelError, match="another model"):
        merge_parts([one, written(make.perceptron(hidden=5), 2, 2)])
    assert merge_parts([two, one]).layout.parameters == 39


def test_parts_are_those_of_the_study_that_they_are_merged_for(make, written):
    task, asked = make.perceptron(), []
    parts, site = [written(task, part, 2, mask="random 4x") for part in (1, 2)], written(task, mask="random 4x")

    def study(**changes):
        def gives(cut):
            asked.append(cut)
            identity = fisher_identity(task) if cut else {}
            return {**identity, "definition": "per-sample", "mask": "random 4x", **changes}

        return gives

    assert_same(merge_parts(parts, study=study()), merge_parts([site], study=study()), ids=False)
    assert asked == [True, False]
    for changes, words in (
        ({"model": "0"}, "of another model than the study"),
        ({"loss": "l1"}, "loss is .*, l1 in the study"),
        ({"data.fisher.retain": "0"}, "of another retain set than the study"),
        ({"definition": "batch"}, "definition is per-sample, batch in the study"),
        ({"mask": "random 8x"}, "mask is random 4x, random 8x in the study"),
    ):
        with pytest.raises((DataError, ModelError), match=words):
            merge_parts(parts, study=study(**changes))


@pytest.mark.parametrize("spoil", ["rows", "kept", "second", "missing", "link"])
def test_files_that_others_have_spoiled_are_refused(make, written, tmp_path, spoil):
    path = written(make.perceptron())
    with h5py.File(path, "r+") as file:
        own = file["forget"]
        if spoil == "link":
            del own["losses"]
            own["losses"] = h5py.ExternalLink(str(tmp_path / "other.h5"), "/losses")
        elif spoil == "missing":
            del file["phi"]
        else:
            values = own[spoil][()]
            del own[spoil]
            own[spoil] = values[:, 1:] if spoil == "rows" else values + 5 if spoil == "kept" else values * np.nan
    with pytest.raises(DataError):
        merge_parts([path])
    analysis = tmp_path / "whole.h5"
    analyse(make.perceptron()).save(analysis)
    with pytest.raises(DataError, match="not a part of a Fisher analysis"):
        merge_parts([analysis])
