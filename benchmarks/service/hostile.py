"""Hostile or broken inputs to the command line: each is to end in one line and the right exit code, leaving nothing."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import traceback
from collections import deque
from pathlib import Path

from benchmarks.service.hostile_inputs import SECRET, STUDY, Case, cases

LIMIT = 300
"""Seconds, after which a command hangs: it is ended, and bad."""


def make_sound(folder: Path) -> None:
    """A study file with data and model by ssdtune's own commands."""
    from ssdtune.mri.networks.models import build_model, save_new_model
    from ssdtune.studyfile import load_study_file

    (folder / "study.toml").write_text(STUDY)
    save_new_model(folder / "model.pt", build_model(load_study_file(folder / "study.toml").train), {})
    for name, anatomy in (("retain", "brain"), ("forget", "knee")):
        size = ["--subjects", "1", "--slices", "2", "--coils", "3", "--size", "32"]
        done = Call(["data", "simulate", name, "--anatomy", anatomy, *size], folder).done()
        if done.returncode:
            raise RuntimeError(done.stderr)


def tried(count: int, seed: int, folder: Path, at_once: int = 4) -> tuple[int, list[str]]:
    """(how many, what was wrong with those that did not end as they should)."""
    rng, bad, running = random.Random(seed), list[str](), deque[_Attempt]()
    sound = folder / "sound"
    sound.mkdir()
    make_sound(sound)
    for number, case in enumerate(cases(rng, count)):
        if len(running) == at_once:
            bad += running.popleft().faults()
        running.append(_Attempt(number, case, sound))
    while running:
        bad += running.popleft().faults()
    left = sorted(path.name for path in folder.iterdir() if path != sound)
    return count, bad + ([f"left {left} outside of their folders"] if left else [])


class _Attempt:
    """A case under way in a copy of the sound folder, which lies in a folder of its own."""

    def __init__(self, number: int, case: Case, sound: Path) -> None:
        self.number, self.case, self.outside = number, case, sound.parent / f"case-{number}"
        place = self.outside / "place"
        shutil.copytree(sound, place)
        case.spoil(place)
        self.before = contents(self.outside)
        self.call = Call(case.arguments, place)

    def faults(self) -> list[str]:
        """What is wrong with how it ended, if anything; its folder is gone then."""
        fault, after = judge(self.case, self.call.done()), contents(self.outside)
        if not fault and after != self.before:
            names = {name for name, _ in after.items() ^ self.before.items()}
            fault = f"left or changed {sorted(map(str, names))}"
        shutil.rmtree(self.outside)
        return [f"{self.number} {self.case.kind}: ssdtune {self.case.arguments}: {fault}"] if fault else []


def judge(case: Case, done: subprocess.CompletedProcess[str]) -> str:
    """What is wrong with how a command ended; empty if nothing is."""
    errors = [
        line for line in done.stderr.splitlines() if line.strip() and not line.startswith(("warning: ", "device: "))
    ]
    if "Traceback" in done.stderr + done.stdout:
        return "a traceback: " + errors[-1]
    if done.returncode not in case.codes:
        return f"exit {done.returncode}: {errors[-1:]}"
    if len(errors) != 1 or not errors[0].startswith("error: "):
        return f"{len(errors)} lines: {errors[:3]}"
    if SECRET in done.stderr + done.stdout:
        return "a password was printed"
    return ""


class Call:
    """A command in a process of its own, forked from this one, which has imported all; the same as typed."""

    def __init__(self, arguments: list[str], place: Path) -> None:
        self.arguments, self.folder = arguments, place.parent
        self.process = os.fork()
        if self.process == 0:
            code = 70
            try:
                signal.alarm(LIMIT)
                os.chdir(place)
                os.environ["SSDTUNE_STORAGE"] = f"sqlite:///{place}/none.db"
                os.environ["SSDTUNE_CACHE"] = str(self.folder / "cache")
                with open(self.folder / "out.txt", "w") as out, open(self.folder / "err.txt", "w") as err:
                    os.dup2(out.fileno(), 1)
                    os.dup2(err.fileno(), 2)
                    sys.stdout, sys.stderr = out, err
                    code = _exit_code(arguments)
            finally:
                os._exit(code)

    def done(self) -> subprocess.CompletedProcess[str]:
        """Waits for it; what it printed and its cache are gone from the folder then."""
        code = os.waitstatus_to_exitcode(os.waitpid(self.process, 0)[1])
        printed = []
        for path in (self.folder / "out.txt", self.folder / "err.txt"):
            printed.append(path.read_text(errors="replace"))
            path.unlink()
        shutil.rmtree(self.folder / "cache", ignore_errors=True)
        return subprocess.CompletedProcess(self.arguments, code, *printed)


def _exit_code(arguments: list[str]) -> int:
    from ssdtune.cli import main

    try:
        main(arguments)
    except SystemExit as stop:
        return int(stop.code or 0)
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def contents(folder: Path) -> dict[Path, str]:
    return {
        path.relative_to(folder): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        for path in folder.rglob("*")
        if not path.is_symlink()
    }
