"""The words of docs/glossary.md are used, and none that means the same: in documentation, docstrings and messages."""

import ast
import re
from pathlib import Path

import pytest
from doc_blocks import FENCED, PAGES, ROOT

OTHERS = {
    "retain set": r"retaining set|remain(?:ing)? (?:set|data)|keep set|retained set",
    "forget set": r"forgetting set|deletion set|removal set|unlearn(?:ing)? set|set to unlearn",
    "oracle": r"retrained model|gold[- ]standard model|golden model|reference model|ideal model",
    "floor": r"lower bound of quality|chance quality",
    "method": r"unlearning algorithm|unlearning technique",
    "knob": r"tunable|hyper-parameter",
    "setting": r"hyperparameter configuration|parameter combination|hyperparameter set\b",
    "sampler": r"\boptimi[sz]er of the search|search strategy|\bproposer",
    "trial": r"\brollout|search iteration|evaluation run",
    "goal": r"\bobjective weights",
    "feasible": r"\badmissible|\ballowable",
    "incumbent": r"\bchampion|best-so-far|current best",
    "slice pass": r"forward-equivalent|\bNFE\b",
    "retain weight": r"retain alpha|alpha of the score|alpha in the score",
    "damage": r"predicted harm|foreseen harm",
    "repair": r"\bhealing steps|recovery steps",
    "k-space": r"(?<![\w`./*'\"])k space",
    "Optuna": r"(?<![\w`./\[-])optuna (?:study|studies|sampler|trial)s?\b",
    "E2E-VarNet": r"E2E VarNet|varnet model",
}
"""What stands in the glossary, or in the field, and other words for it."""

EXPLAINED = {("docs/glossary.md", "retrained model")}
"""Where another word is named so that it is found."""


def prose():
    """(place, text) of pages without their blocks, of docstrings, and of every piece of text in the package."""
    for page, text in PAGES.items():
        yield page, FENCED.sub("", text)
    for path in sorted((ROOT / "ssdtune").rglob("*.py")):
        place = path.relative_to(ROOT).as_posix()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield place, node.value
    for path in sorted((ROOT / "ssdtune").rglob("*.jinja")):
        yield path.relative_to(ROOT).as_posix(), path.read_text()


TEXTS = list(prose())


@pytest.mark.parametrize("word", OTHERS)
def test_one_word_for_one_thing(word):
    other = re.compile(OTHERS[word])
    found = {(place, match[0]) for place, text in TEXTS for match in other.finditer(" ".join(text.split()))}
    assert found <= EXPLAINED


def test_every_word_of_the_glossary_is_used():
    rows = re.findall(r"^\| ([^|]+?) \|", PAGES["docs/glossary.md"], re.MULTILINE)[2:]
    elsewhere = " ".join(text for place, text in TEXTS if Path(place).name != "glossary.md").lower()
    for row in rows:
        for word in row.split(", "):
            assert word.lower() in elsewhere, word
