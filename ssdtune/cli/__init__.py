"""The command line: ``ssdtune COMMAND``. Commands are imported when called, so ``--help`` is quick."""

from __future__ import annotations

import atexit
import gc
import io
import os
import re
import sys
from contextlib import suppress
from importlib import import_module
from typing import NoReturn

import click

import ssdtune
from ssdtune.cli.events import LOG_JSON, write_error, write_event
from ssdtune.errors import SsdtuneError, nearest
from ssdtune.study.interrupts import end_on_sigterm, exit_code

# command -> one-line help; it lies in a module of its name
COMMANDS: dict[str, str] = {
    "data": "Simulate, poison, average, convert and check HDF5 k-space.",
    "train": "Train a reconstruction model from a study file.",
    "spectrum": "Fisher spectrum and features of the forget set.",
    "study": "Create, run, compare and apply studies.",
    "storage": "Make a storage, or serve one to other machines.",
    "worker": "Run what is left of all studies of a storage.",
    "prior": "Collect the experience that the learned prior comes from.",
    "dashboard": "Open the Optuna dashboard on the storage.",
    "reconstruct": "Reconstruct with the untouched and the unlearned model.",
    "attack": "How far worst-case perturbations move each model's images.",
    "report": "Write a study's report as one HTML page.",
    "demo": "The main job on an embedded default, no data needed.",
}


class LazyGroup(click.Group):
    """A group whose commands are imported only when called; help lists come from ``COMMANDS``."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = getattr(import_module(f"ssdtune.cli.{cmd_name}"), cmd_name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Example: ssdtune demo --out demo",
)
@click.version_option(ssdtune.__version__, prog_name="ssdtune")
@click.option("--debug", is_flag=True, expose_value=False, help="Show the traceback of an error; at any place.")
def cli() -> None:
    """Find the hyperparameters with which a trained MRI reconstruction model forgets, and keeps the rest."""


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit: 0 done, 2 usage or config, 3 data or model, 4 storage, 5 trial, 128 + a signal."""
    arguments = sys.argv[1:] if arguments is None else arguments
    debug = "--debug" in arguments
    # Python looks for garbage once more as it ends, in all that torch and Plotly have made: a second of CPU time, ten
    # on a busy machine, in which an orchestrator may lose its patience; what is frozen is not looked at
    atexit.unregister(gc.freeze)
    atexit.register(gc.freeze)
    output = sys.stdout
    for stream in (sys.stdout, sys.stderr):  # names of files may hold what a terminal's encoding does not
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        end_on_sigterm()  # here, where it is answered
        cli.main(args=[word for word in arguments if word != "--debug"], prog_name="ssdtune", standalone_mode=False)
        if sys.stdout is not None:
            sys.stdout.flush()  # here, where it may still fail in words
    except SystemExit:
        if sys.stdout is not output:  # click's answer to a broken pipe, beside exit code 1
            _end_without_reader()
        raise
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        sys.exit(2)
    except click.ClickException as error:
        if debug:
            raise
        _complain(arguments, error, _in_one_line(error))
        sys.exit(2)
    except (click.Abort, KeyboardInterrupt) as error:
        if LOG_JSON in arguments:
            write_event(sys.stderr, "stopped")
        else:
            click.echo("stopped", err=True)
        sys.exit(exit_code(error.__cause__ or error))
    except SsdtuneError as error:
        if debug:
            raise
        _complain(arguments, error, " ".join(str(error).split()))
        sys.exit(error.exit_code)
    except BrokenPipeError:
        _end_without_reader()
    except OSError as error:  # of a file that no module asks after, such as a full disk behind standard output
        if debug:
            raise
        words = (error.strerror or str(error), error.filename, "check disk and permissions")
        _complain(arguments, error, ", ".join(str(word) for word in words if word))
        sys.exit(3)
    except (MemoryError, RuntimeError) as error:
        if debug or not _is_lack_of_memory(error):
            raise
        why = str(error).partition(". ")[0] or "no more is said"
        _complain(arguments, error, f"not enough memory ({' '.join(why.split())}), ssdtune, choose smaller sizes")
        sys.exit(2)


def _complain(arguments: list[str], reason: BaseException, words: str) -> None:
    """One line on standard error, which is an event where all lines are."""
    if LOG_JSON in arguments:
        write_error(sys.stderr, reason, words)
    else:
        click.echo(f"error: {words}", err=True)


def _end_without_reader() -> NoReturn:
    """Whoever read what this prints has read enough (``| head``): end as a program does that SIGPIPE ends, silently."""
    with suppress(OSError, ValueError):  # Python flushes once more as it ends
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(128 + 13)


def _is_lack_of_memory(error: Exception) -> bool:
    """Whether numpy, torch or Python could not get the memory it asked for."""
    return isinstance(error, MemoryError) or "out of memory" in str(error) or "can't allocate memory" in str(error)


def _in_one_line(error: click.ClickException) -> str:
    """What click found wrong, and where the right usage is shown."""
    message = " ".join(error.format_message().split()).removesuffix(".").replace(". Did you mean", ", did you mean")
    message = re.sub(r"is not a valid (\w+) range$", r"is not a valid \1", message)  # a type that has bounds
    if isinstance(error, click.NoSuchOption) and error.possibilities:  # versions of click word it differently
        near = ", ".join(f"'{option}'" for option in sorted(error.possibilities))
        some = "one of: " if len(error.possibilities) > 1 else ""
        message = f"{error.message.split(' (')[0].removesuffix('.')}, did you mean {some}{near}?"
    context = getattr(error, "ctx", None)
    wrong = re.search(r"(?:command|:) '([^']*)'", message)
    if wrong and context and "id you mean" not in message:
        kind = getattr(getattr(error, "param", None), "type", None)
        names = [*kind.choices] if isinstance(kind, click.Choice) else []
        if isinstance(context.command, click.Group):
            names = context.command.list_commands(context)
        message = ", ".join(filter(None, [message, nearest(wrong[1], names)]))
    return f"{message}, see: {context.command_path if context else 'ssdtune'} --help"
