"""``/healthz`` and ``/metrics`` of a worker, for an orchestrator and for Prometheus.

Nothing in them names a study, a file or an address.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry, Counter, Gauge, make_wsgi_app

from ssdtune.errors import ConfigError

if TYPE_CHECKING:
    from ssdtune.study.patience import Patience

UNWELL = 60.0
"""Seconds without an answer of the storage, while one is waited for, after which a worker calls itself unwell."""

_ESTIMATE = "plain_slice"
"""Among a trial's seconds, but not time spent on it: what one slice takes the plain way."""


class Health:
    """A worker's numbers, in a registry of their own."""

    def __init__(self, patience: Patience) -> None:
        self.patience = patience
        self.registry = CollectorRegistry()
        self._trials = Counter("ssdtune_trials", "Trials that ended here.", ["state"], registry=self.registry)
        self._seconds = Counter("ssdtune_seconds", "Seconds by phase of trials.", ["phase"], registry=self.registry)
        self._aside = Gauge("ssdtune_studies_aside", "Studies that are set aside here.", registry=self.registry)
        gauges: dict[str, tuple[str, Callable[[], float]]] = {
            "ssdtune_heartbeat_age_seconds": ("Since the storage last answered here.", self._age),
            "ssdtune_storage_seconds": ("Spent in the storage.", lambda: patience.spent),
            "ssdtune_storage_lost": ("1 while the storage does not answer.", lambda: float(self._lost_for() > 0)),
        }
        for name, (words, value) in gauges.items():
            Gauge(name, words, registry=self.registry).set_function(value)
        for state in ("complete", "pruned", "failed", "interrupted"):
            self._trials.labels(state)

    def trial(self, state: str, seconds: Mapping[str, float] | None = None) -> None:
        self._trials.labels(state).inc()
        for phase, spent in (seconds or {}).items():
            if phase != _ESTIMATE:
                self._seconds.labels(phase).inc(spent)

    def aside(self, studies: int) -> None:
        self._aside.set(studies)

    def app(self, environ: Mapping[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """The WSGI application."""
        path = environ.get("PATH_INFO")
        if path == "/metrics":
            found: Iterable[bytes] = make_wsgi_app(self.registry)(environ, start_response)
            return found
        if path == "/healthz":
            unwell = self._lost_for() > UNWELL
            words = b"the storage does not answer\n" if unwell else b"ok\n"
            start_response("503 Service Unavailable" if unwell else "200 OK", [("Content-Type", "text/plain")])
            return [words]
        start_response("404 Not Found", [("Content-Type", "text/plain")])
        return [b"/healthz and /metrics\n"]

    def _age(self) -> float:
        return time.monotonic() - self.patience.answered

    def _lost_for(self) -> float:
        since = self.patience.lost_since
        return 0.0 if since is None else time.monotonic() - since


def serve(app: Callable[..., Any], host: str, port: int) -> int:
    """Serve an application from a thread of this process; returns the port.

    Raises
    ------
    ConfigError : the address cannot be listened on.
    """
    server = listen(app, host, port, threads=2)
    threading.Thread(target=server.run, daemon=True).start()
    return int(server.effective_port)


def listen(app: Callable[..., Any], host: str, port: int, *, threads: int) -> Any:
    """A waitress server of an application, bound and yet to run.

    Raises
    ------
    ConfigError : the address cannot be listened on.
    """
    from waitress import create_server

    # that a request waits for a thread is no news on a busy machine
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)
    try:
        return create_server(app, host=host, port=port, threads=threads, ident=None, clear_untrusted_proxy_headers=True)
    except (OSError, ValueError) as reason:
        why = getattr(reason, "strerror", None) or str(reason)
        where = f"http://{host}:{port}/"
        raise ConfigError(f"cannot listen ({why})", where, "choose another --host or --port") from reason
