"""Help and suggestions: every `--help` has one example that parses, and what is nearly right is named."""

import json
import re
import shlex

import click
import pytest
from outputs import OUTPUTS, VARIANTS

from ssdtune.cli import cli, main


def walk(command=cli, words=()):
    """Every command and group with the words that lead to it."""
    yield words, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            yield from walk(command.get_command(context, name), (*words, name))


COMMANDS = dict(walk())


def parse(words):
    """The command that ``words`` call; raises what click finds wrong with its options and arguments."""
    command = cli
    while isinstance(command, click.Group):
        command, words = command.get_command(click.Context(command), words[0]), words[1:]
    command.make_context(command.name, list(words))
    return command


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_every_help_has_one_example_that_parses(words, capsys):
    main([*words, "--help"])
    (line,) = re.findall(r"^ *Example: ssdtune (.*)$", capsys.readouterr().out, re.MULTILINE)
    example = shlex.split(line)
    assert tuple(example[: len(words)]) == words
    command = parse(example)
    assert isinstance(COMMANDS[words], click.Group) or command is COMMANDS[words]


@pytest.mark.parametrize("words", [words for words, command in COMMANDS.items() if isinstance(command, click.Group)])
def test_commands_are_listed_in_whole_sentences(words, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    main([*words, "--help"])
    assert "..." not in capsys.readouterr().out.split("Commands:")[1]


@pytest.mark.parametrize(
    ("line", "word"),
    [
        ("stud list", "'study'"),
        ("study crate mine.toml", "'create'"),
        ("study run mine --precison bfloat16", "--precision"),
        ("study create mine.toml --sampler spectrm", "'spectrum'"),
        ("data poison knees --out bad --kind gost", "'ghosting'"),
        ("study create mine.toml --method spectrl", "'spectral'"),
        ("study create mine.toml --method ssd-repare", "'ssd-repair'"),
        ("study compare mine.toml --methods ft,ngg", "'ng'"),
        ("study compare mine.toml --methods ft@tpee", "'tpe'"),
        ("study compete mine.toml --method ssd --samplers spectrum,cmaesx", "'cmaes'"),
        ("study create section.toml", "'search'"),
        ("study create key.toml", "'checkpoint'"),
        ("study create value.toml", "'ssim'"),
        ("study create knob.toml", "'eta'"),
    ],
)
def test_what_is_nearly_right_is_named(line, word, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name in ("m.pt", "r/a.h5", "f/a.h5"):  # a file that is missing is said before all of this
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    sound = 'name = "mine"\n[model]\ncheckpoint = "m.pt"\n[data]\nretain = "r"\nforget = "f"\n'
    spoiled = {
        "mine": sound,
        "section": sound + "[serch]\ntrials = 3\n",
        "key": sound.replace("checkpoint", "chekpoint"),
        "value": sound + '[fisher]\nloss = "sim"\n',
        "knob": sound + "[method]\netta = [0.1, 1.0]\n",
    }
    for name, text in spoiled.items():
        (tmp_path / f"{name}.toml").write_text(text)
    for file in ("m.pt", "r/a.h5", "f/b.h5"):  # files that are not there would be named before
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).touch()
    with pytest.raises(SystemExit) as stop:
        main(line.split())
    err = capsys.readouterr().err.lower()
    assert stop.value.code == 2
    # the latter are Click's own words, of options, before 8.4
    assert re.search(rf"(did you mean (one of: )?|possible options: ).*{word}", err), err


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("study creat mine.toml", "no such command 'creat', did you mean 'create'?, see: ssdtune study --help"),
        ("attack mine --trial x", "'x' is not a valid integer, see: ssdtune attack --help"),
        ("study rescore mine --min-retained x", "'x' is not a valid float, see: ssdtune study rescore --help"),
    ],
)
def test_what_click_finds_wrong_reads_as_the_rest(line, words, capsys):
    with pytest.raises(SystemExit) as stop:
        main(line.split())
    assert stop.value.code == 2
    assert words in capsys.readouterr().err.lower()


def test_every_command_that_prints_json_has_a_schema_and_no_other():
    printing = set()
    for words, command in COMMANDS.items():
        names = {option.name for option in command.params}
        if "as_json" in names:
            variants = [f"--{name.replace('_', '-')}" for name in VARIANTS if name in names]
            printing |= {" ".join(words), *(" ".join([*words, variant]) for variant in variants)}
    described = {name for name in json.loads(OUTPUTS.read_text())["$defs"] if not name[0].isupper()}
    assert described == printing
