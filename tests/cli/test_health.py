"""``/healthz`` and ``/metrics``: what a worker did, and whether its storage answers."""

import time
import urllib.error
import urllib.request

import pytest

from ssdtune.cli import health
from ssdtune.cli.health import Health, serve
from ssdtune.errors import ConfigError
from ssdtune.study.patience import Patience


def get(port, path):
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=60) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_it_counts_trials_and_seconds_and_says_when_the_storage_is_lost(monkeypatch):
    patience = Patience()
    own = Health(patience)
    own.trial("complete", {"unlearn": 1.5, "storage": 0.25, "plain_slice": 0.5})
    own.trial("failed")
    port = serve(own.app, "127.0.0.1", 0)
    assert get(port, "/healthz") == (200, "ok\n")
    status, text = get(port, "/metrics")
    lines = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    assert status == 200
    assert lines['ssdtune_trials_total{state="complete"}'] == "1.0"
    assert lines['ssdtune_trials_total{state="interrupted"}'] == "0.0"
    assert lines['ssdtune_seconds_total{phase="unlearn"}'] == "1.5"
    assert {line for line in lines if "seconds_total" in line} == {
        'ssdtune_seconds_total{phase="unlearn"}', 'ssdtune_seconds_total{phase="storage"}'}  # fmt: skip
    assert 0 <= float(lines["ssdtune_heartbeat_age_seconds"]) < 60
    assert lines["ssdtune_storage_lost"] == "0.0"
    patience.has_failed(ValueError())
    assert get(port, "/healthz")[0] == 200  # a restart is not worth one of ours
    monkeypatch.setattr(health, "UNWELL", 0.0)
    time.sleep(0.01)
    assert get(port, "/healthz")[0] == 503
    patience.has_answered(0.0)
    assert get(port, "/healthz")[0] == 200
    assert get(port, "/elsewhere")[0] == 404


def test_a_port_that_is_taken_is_refused():
    port = serve(Health(Patience()).app, "127.0.0.1", 0)
    with pytest.raises(ConfigError, match="cannot listen"):
        serve(Health(Patience()).app, "127.0.0.1", port)
