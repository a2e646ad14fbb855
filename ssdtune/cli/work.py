"""What a worker does with a storage: rounds over its studies, and what it says of them."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ssdtune.cli.events import Events, plain_error
from ssdtune.cli.health import Health
from ssdtune.cli.study_read import list_row
from ssdtune.cli.study_run import Report, carry_out
from ssdtune.errors import SsdtuneError, StorageError, TrialError
from ssdtune.study.patience import Patience, patiently, waited_for
from ssdtune.study.storage import why_of
from ssdtune.study.worker import ASIDE, Setback, Setbacks, waiting_studies

if TYPE_CHECKING:
    import optuna
    from optuna.storages import BaseStorage


class Work:
    """What a worker has to do and has done: ``ran`` trials by study, and the studies ``skipped``.

    watched : whether it goes on until it is stopped, so that inputs that cannot be used may be mended meanwhile.
    """

    def __init__(
        self,
        open_storage: Callable[[], BaseStorage],
        names: tuple[str, ...],
        device: str,
        events: Events,
        *,
        patience: float,
        failures: int,
        watched: bool = False,
    ) -> None:
        self.names, self.device, self.events, self.watched = names, device, events, watched
        self.patience = Patience(patience, self._storage_changed)
        self.storage = patiently(open_storage, self.patience)
        self.setbacks = Setbacks(failures)
        self.health = Health(self.patience)
        self._spent = 0.0  # in the storage, when the last trial ended
        self.ran: dict[str, int] = {}
        self.skipped: list[dict[str, Any]] = []

    def view(self) -> BaseStorage:
        """The storage, waited for, as it is now."""
        return waited_for(self.storage, self.patience)

    def run_round(self) -> float | None:
        """Run all studies that have trials left and are due, one after the other; seconds to the next round, or None if
        there is nothing left to do."""
        from ssdtune.study import interrupts

        found = False
        # within SQLAlchemy Python may lose a signal, or leave a connection that is of no use to what comes after
        with interrupts.taken():
            try:
                for study in waiting_studies(self.view, self.names):
                    interrupts.check()
                    if self.setbacks.is_due(study.study_name):
                        found = True
                        self._run(study)
            finally:
                interrupts.check()  # which also ends the wait for a storage
        return 0.0 if found else self.setbacks.next_try()

    def rows(self) -> list[dict[str, Any]]:
        """A row for each study that trials were run of here, and is still there."""
        from ssdtune.study.storage import load_study, storage_errors, study_names

        with storage_errors():
            here = [name for name in study_names(self.view()) if self.ran.get(name)]
            return [{**list_row(load_study(name, self.view())), "ran": self.ran[name]} for name in here]

    def _run(self, study: optuna.Study) -> None:
        from ssdtune.study.record import read_record
        from ssdtune.study.storage import storage_errors

        name = study.study_name
        self.events("study", f"study {name}", study=name)
        before = self.ran.get(name, 0)
        try:
            with storage_errors():
                record = read_record(study)
                carry_out(study, self.storage, Report(record, record.search.trials, self._trial), self.device)
        except KeyboardInterrupt:
            self.health.trial("interrupted")
            raise
        except Exception as reason:  # whatever a user's model, loss or data raises sets the study aside, not the worker
            if isinstance(reason, StorageError) and reason.__cause__ is not None:
                raise  # of the database, not of this study
            if isinstance(reason, KeyError) and name not in self._names():
                self.events("gone", f"study {name} was deleted", study=name)
                return
            if self.ran.get(name, 0) > before:
                self.setbacks.went_on(name)
            self._failed(name, reason)
        else:
            self.setbacks.went_on(name)
        self.health.aside(sum(setback.aside for setback in self.setbacks.found.values()))

    def _names(self) -> list[str]:
        from ssdtune.study.storage import study_names

        return study_names(self.view())

    def _trial(self, words: str, facts: dict[str, Any]) -> None:
        self.ran[facts["study"]] = self.ran.get(facts["study"], 0) + 1
        facts["seconds"]["storage"] = self.patience.spent - self._spent
        self._spent = self.patience.spent
        self.health.trial(facts["state"], facts["seconds"])
        self.events("trial", words, **facts)

    def _failed(self, name: str, reason: Exception) -> None:
        of_user = isinstance(reason, SsdtuneError)
        why = " ".join(str(reason if of_user else f"{type(reason).__name__}: {reason}").split())
        code = reason.exit_code if isinstance(reason, SsdtuneError) else TrialError.exit_code
        if isinstance(reason, TrialError):
            self.health.trial("failed")
        passing = self.watched or isinstance(reason, TrialError) or not of_user
        setback = self.setbacks.failed(name, why, code, passing=passing)
        self.events(
            "set_aside" if setback.aside else "failed",
            self._words(name, setback),
            study=name,
            failures=setback.failures,
            error=type(reason).__name__,
            why=plain_error(reason, why),
        )
        if setback.aside:
            self.skipped = [each for each in self.skipped if each["study"] != name]
            self.skipped.append({"study": name, "error": why, "exit_code": code})

    def _words(self, name: str, setback: Setback) -> str:
        import time

        if not setback.aside:
            return (
                f"study {name} failed ({setback.failures} of {self.setbacks.limit}), "
                f"tried again in {setback.again - time.monotonic():.0f} s: {setback.why}"
            )
        later = f" (tried again in {ASIDE / 60:.0f} min)" if self.watched else ""
        return f"skipped study {name}{later}: {setback.why}"

    def _storage_changed(self, why: Exception | None, waited: float) -> None:
        if why is not None:
            words = f"the storage does not answer ({why_of(why)}), waiting up to {self.patience.seconds:.0f} s"
            self.events("storage_lost", words, error=type(why).__name__, process=os.getpid())
        else:
            self.events("storage_back", f"the storage answers again, after {waited:.0f} s", waited=round(waited, 1))
