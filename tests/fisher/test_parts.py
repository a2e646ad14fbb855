"""Analyses in parts: whatever they are cut into, they are those of the whole."""

import numpy as np
import pytest
from same_analysis import assert_same

from ssdtune.errors import DataError, ModelError
from ssdtune.fisher.analysis import analyse
from ssdtune.fisher.crew import SETS, Notes
from ssdtune.fisher.parts import added, cut, gather_part, merged, panels, stretch_sums
from ssdtune.fisher.tables import Bins, RowTables, knots_of

pytestmark = pytest.mark.filterwarnings("ignore::ssdtune.fisher.analysis.FisherWarning")


def in_parts(number, stretches):
    """A crew of so many parts and stretches, one after the other in this process."""

    class InParts:
        notes = Notes()

        def __init__(self, work):
            self.work = work

        def gather(self, track):
            parts = [gather_part(self.work, part, number) for part in range(number)]
            self.panels = [list(panels(rows, self.work.layout.parameters, stretches)) for _, rows in parts]
            found, self.notes = merged((sums for sums, _ in parts), self.work.layout.parameters, self.work.kept, "task")
            return found

        def tables(self, ratios, theta, groups, track):
            knots, work = knots_of(ratios), self.work
            bins, found = Bins.of(ratios, theta, knots), []
            for stretch, own in enumerate(zip(*self.panels, strict=True)):
                place = cut(work.layout.parameters, stretch, stretches)
                found.append(stretch_sums(place, bins.stretch(place), groups, own, "cpu"))
            counts = [len(work.kept[name]) for name in SETS]
            self.found, *sums = added(found, groups, sum(counts))
            tables = zip(*(np.split(each, counts[:1]) for each in sums), strict=True)
            return {
                name: RowTables(knots, *both, count) for name, both, count in zip(SETS, tables, counts, strict=True)
            }

        def grams(self):
            return iter(self.found.items())

    return InParts


@pytest.mark.parametrize(("number", "stretches"), [(1, 1), (3, 2), (7, 5), (11, 1)])
def test_parts_are_the_whole(make, number, stretches):
    task = make.perceptron(retain=30, forget=9)
    whole = analyse(task, groups="layer")
    assert_same(analyse(task, groups="layer", crew=in_parts(number, stretches)), whole)


@pytest.mark.parametrize(
    "options",
    [
        {"definition": "batch", "batch_size": 4, "denominator": "full"},
        {"max_gram_samples": 5, "groups": "block"},
        {"samples": 7},
        {"memory_budget": 2**25 + 66 * 4503},
    ],
)
def test_whatever_is_asked_for(make, options):
    task = make.perceptron(retain=22, forget=13, hidden=500)
    assert_same(analyse(task, crew=in_parts(3, 4), **options), analyse(task, **options))


def test_a_network_of_many_shapes(varnet_task):
    assert_same(analyse(varnet_task, crew=in_parts(2, 3)), analyse(varnet_task))


def test_what_is_wrong_is_named_as_in_the_whole(make):
    samples = make.samples(9, 3)
    samples[7][0][0] = float("nan")
    with pytest.raises(DataError, match="forget sample 7 is not finite"):
        analyse(make.perceptron(forget=samples), crew=in_parts(3, 1))
    with pytest.raises(ModelError, match="all gradients of the forget set are zero"):
        analyse(make.perceptron(scale=0.0), crew=in_parts(2, 1))
