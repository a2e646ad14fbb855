"""Sections of the results say which code they measured, and those of other code are marked."""

import hashlib
import re

import pytest

from benchmarks import results
from benchmarks.imports import code_hash, read_sources

SOURCES = {
    "ssdtune": 'HOME = {"analyse": "ssdtune.fisher"}\n',
    "ssdtune.fisher": "from ssdtune.rows import rows\n",
    "ssdtune.rows": "def rows(n):\n    return n + 1\n",
    "ssdtune.table": 'TABLE = {"a": "ssdtune.a:A"}\n',
    "ssdtune.a": "A = 1\n",
    "ssdtune.apart": "B = 2\n",
    "benchmarks.harness": "import ssdtune.apart\n",
    "benchmarks.speed": "from ssdtune.fisher import rows\nfrom benchmarks.shared import x\n",
    "benchmarks.shared": "def x():\n    from ssdtune import table\n",
    "benchmarks.whole": "import ssdtune\n",
}


def changed(name, text):
    return {**SOURCES, name: text}


@pytest.mark.parametrize("name", ["ssdtune.fisher", "ssdtune.rows", "ssdtune.table", "ssdtune.a"])
def test_what_a_benchmark_reaches_is_in_its_hash(name):
    assert code_hash("speed", changed(name, SOURCES[name] + "C = 3\n")) != code_hash("speed", SOURCES)


def test_what_it_does_not_reach_is_not_nor_are_words():
    for name in ("ssdtune.apart", "benchmarks.shared", "benchmarks.speed"):
        assert code_hash("speed", changed(name, SOURCES[name] + "C = 3\n")) == code_hash("speed", SOURCES)
    words = '"""Rows."""\n\n\ndef rows(n):  # of n\n    """One more."""\n    return n + 1\n'
    assert code_hash("speed", changed("ssdtune.rows", words)) == code_hash("speed", SOURCES)
    assert code_hash("whole", changed("ssdtune.rows", "")) != code_hash("whole", SOURCES)  # by the table of names
    assert code_hash("nowhere", SOURCES) == ""


def test_the_data_that_a_module_names_are_in_its_hash():
    with_data = changed("ssdtune.rows", 'BUNDLED = "mapper.npz"\n') | {"ssdtune/prior/data/mapper.npz": "a"}
    other = with_data | {"ssdtune/prior/data/mapper.npz": "b"}
    assert code_hash("speed", with_data) != code_hash("speed", other)
    assert code_hash("speed", SOURCES | {"ssdtune/prior/data/mapper.npz": "b"}) == code_hash("speed", SOURCES)
    known = read_sources()
    assert "ssdtune/prior/data/mapper.npz" in known
    refitted = known | {"ssdtune/prior/data/mapper.npz": "refitted"}
    assert code_hash("competition", refitted) != code_hash("competition", known)


def test_sections_of_other_code_of_none_and_of_changed_trees_are_stale():
    rest = "machine, 3 s."
    text = "".join(
        f"<!-- {name} -->\n## Speed.\n\n`python -m benchmarks.speed --only {name}`, 2026-11-28, {facts}, {rest}\n"
        for name, facts in {
            "same": f"commit 1234567, code {code_hash('speed', SOURCES)}",
            "other": "commit 1234567, code 0123456789ab",
            "none": "commit 1234567",
            "dirty": f"commit 1234567-dirty, code {code_hash('speed', SOURCES)}",
        }.items()
    )
    assert results.stale(text, SOURCES) == ["dirty", "none", "other"]


def test_the_mark_is_written_and_read(tmp_path):
    path = tmp_path / "README.md"
    path.write_text("Before.\n<!-- stale -->\n<!-- /stale -->\nAfter.\n")
    results.mark(path, results.listed(["speed", "memory"]))
    assert results.marked(path.read_text()) == ["speed", "memory"]
    results.mark(path, results.listed([]))
    assert results.marked(path.read_text()) == [] and path.read_text().startswith("Before.\n<!-- stale -->\nAll on")


def test_what_is_stale_is_marked_and_the_readme_says_how_many():
    text = results.RESULTS.read_text()
    marked, known = results.marked(text), len(results.sections(text))
    unmarked = set(results.stale(text, read_sources())) - set(marked)
    assert known > 25
    assert not unmarked, f"measured on other code: {sorted(unmarked)}; run python -m benchmarks.results --mark"
    assert results.counted(marked, known) in results.README.read_text()


def test_the_picture_of_the_demo_is_the_one_that_its_section_is_about():
    section = re.search(r"<!-- demo -->.*?Its picture is (\w+)\.", results.RESULTS.read_text(), re.DOTALL)
    if section is None:
        pytest.skip("no section of the demo that names its picture: python -m benchmarks.demo --picture ... --publish")
    picture = results.README.parent / "docs/images/before_after.png"
    assert hashlib.sha256(picture.read_bytes()).hexdigest().startswith(section[1])
