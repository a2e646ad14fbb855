"""The code blocks and command lines of the documentation, and what of them cannot be run in a test."""

import re
import shlex
from pathlib import Path

from ssdtune.cli import cli

ROOT = Path(__file__).parents[1]
PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text()
    for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("package/**/*.md")]
    if path.name != "CHANGELOG.md"
}
LANGUAGES = {"sh", "shell", "python", "toml", "yaml", "text"}

SMALLER = {
    r"compete (\S+) --method ft$": r"\g<0> --samplers tpe,random --seeds 1 --trials 1",
    r"--methods all": "--methods ssd,ft",
    r"--trials 40": "--trials 4",
    r"--sites 0-1,3,11-25,30 --tasks 7 --vision 24": "--sites 0 --tasks 1 --vision 0",  # tests/learning makes tasks
    r"--device cuda": "--device cpu",
}
"""Smaller settings under which a command is run: what stands there, and what in its place."""

PARSED = (
    *("--trials 20 --seeds 3", "--cost 20000"),  # of commands that the same page runs in small
    *("data translate", "data classify", "data poison clean", "ssdtune attack"),  # tests/cli runs these
    *("study create second", "study run second", "study compete"),
)
"""In lines that compute for minutes or want other files: their words are checked."""

NOT_RUN = {
    "make demo": "minutes; the wheel's test runs `ssdtune demo` smaller",
    "make test": "runs this",
    "pip install": "tests/package installs the wheel and the sampler's package in environments of their own",
    "docker compose": "no container engine; test_deploy.py checks its file, test_docs_service.py what is run in it",
    "gunicorn": "run by test_docs_service.py",
    "#SBATCH": "no Slurm; test_docs_service.py runs the script with a command in srun's place",
}
"""Lines of shell blocks that are not run with the others, and why. The Kubernetes example is no such line: there is no
cluster, and test_docs_service.py looks that it fits the command line and itself."""


FENCED = re.compile(r"^( *)```(\w*)\n(.*?)^ *```", re.DOTALL | re.MULTILINE)


def blocks(page, *languages):
    """The text of fenced blocks, without their indentation."""
    found = FENCED.findall(PAGES[page])
    return [re.sub(rf"^{indent}", "", text, flags=re.MULTILINE) for indent, kind, text in found if kind in languages]


def kinds(page):
    """The languages of a page's blocks."""
    return {kind for _, kind, _ in FENCED.findall(PAGES[page])}


def unfenced(page):
    """Lines of blocks that are indented, such as equations."""
    return re.findall(r"^    (.*)", FENCED.sub("", PAGES[page]), re.MULTILINE)


def lines(page):
    """Command lines of a page's shell blocks, those that go on joined, comments left out."""
    found = "".join(blocks(page, "sh", "shell")).replace("\\\n", " ").splitlines()
    stripped = (re.sub(r"(^|\s)#(?!SBATCH|!).*", "", line).strip() for line in found)
    return [line for line in stripped if line]


def commands(page):
    """Words after ``ssdtune`` of each line that is run; those of ``PARSED`` are parsed instead."""
    found = []
    for line in (line for line in lines(page) if line.startswith("ssdtune ")):
        if any(words in line for words in PARSED):
            parse(shlex.split(line)[1:])
        else:
            found.append(smaller(line))
    return found


def smaller(line):
    for words, fewer in SMALLER.items():
        line = re.sub(words, fewer, line)
    return shlex.split(line)[1:]


def spoken():
    """(page, command line) of each that stands within a sentence."""
    for page, text in PAGES.items():
        for line in re.findall(r"`ssdtune ([^`]+)`", text):
            yield page, line


def parse(words):
    """The command that words call; raises what its parser finds wrong with options and arguments."""
    command = cli
    while hasattr(command, "get_command"):
        context = command.make_context("ssdtune", [], resilient_parsing=True)
        command, words = command.get_command(context, words[0]), words[1:]
        assert command is not None
    return command.make_context("ssdtune", list(words))


def accepts(words):
    """Whether there is this command with these options, arguments or not."""
    command = cli
    while hasattr(command, "get_command") and words:
        context = command.make_context("ssdtune", [], resilient_parsing=True)
        command, words = command.get_command(context, words[0]), words[1:]
        if command is None:
            return False
    known = {name for option in command.params for name in option.opts} | {"--help"}
    return {word for word in words if word.startswith("--")} <= known


SCRIPT = blocks("docs/service/schedulers.md", "sh")[-1].splitlines()
"""The batch script of Slurm."""
