"""Signals: kept in bookkeeping, raised in an evaluation, raised again where Python dropped one."""

import os
import signal
import time

import pytest

from ssdtune.study import interrupts


@pytest.fixture(autouse=True)
def as_in_a_command():
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, interrupts.raise_terminated)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize(
    ("number", "kind", "code"),
    [(signal.SIGINT, KeyboardInterrupt, 130), (signal.SIGTERM, interrupts.Terminated, 143)],
)
def test_a_signal_is_kept_until_it_is_welcome(number, kind, code):
    done = []
    # the inner one leaves everything to the outer
    with pytest.raises(kind) as caught, interrupts.taken(), interrupts.taken():
        os.kill(os.getpid(), number)
        done.append("bookkeeping")
        assert interrupts.stop_asked()
        with interrupts.welcome():
            done.append("evaluation")
    assert done == ["bookkeeping"]
    assert interrupts.exit_code(caught.value) == code
    assert not interrupts.stop_asked()


def test_a_second_signal_is_raised_at_once():
    done = []
    with pytest.raises(KeyboardInterrupt), interrupts.taken():
        os.kill(os.getpid(), signal.SIGTERM)
        done.append("the first is kept")
        os.kill(os.getpid(), signal.SIGTERM)
        done.append("the second is not")
    assert done == ["the first is kept"]
    assert not interrupts.stop_asked()


def test_one_that_python_dropped_is_raised_again(monkeypatch):
    monkeypatch.setattr(interrupts, "_AGAIN", 0.05)
    done = []
    with pytest.raises(interrupts.Terminated), interrupts.taken():
        with pytest.raises(interrupts.Terminated), interrupts.welcome():
            with pytest.raises(interrupts.Terminated):
                os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(10)
        time.sleep(0.15)  # none comes once it has been heard, but at the end
        done.append("bookkeeping")
    assert done == ["bookkeeping"]
    assert signal.getsignal(signal.SIGTERM) is interrupts.raise_terminated


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_what_is_not_to_be_cut_within_an_evaluation_is_finished_first(number):
    done = []
    with pytest.raises(KeyboardInterrupt), interrupts.taken(), interrupts.welcome():
        with interrupts.held():
            os.kill(os.getpid(), number)
            done.append("transaction")
        done.append("what follows")
    assert done == ["transaction"]
    with interrupts.taken(), interrupts.held():  # nothing is welcome: it changes nothing
        pass


@pytest.mark.parametrize("before", [False, True])
def test_what_is_not_to_be_cut_is_given_up_where_it_does_not_end(monkeypatch, before):
    monkeypatch.setattr(interrupts, "_ANSWER", 0.05)
    with pytest.raises(interrupts.Terminated), interrupts.taken():
        if before:
            os.kill(os.getpid(), signal.SIGTERM)
        with interrupts.held():
            if not before:
                os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(10)
        raise AssertionError("it went on")
    assert not interrupts.stop_asked()


@pytest.mark.parametrize("kind", [OSError, KeyError])
def test_one_that_a_driver_makes_another_error_of_is_raised_in_the_end(kind):
    with pytest.raises(interrupts.Terminated), interrupts.taken():
        try:
            with interrupts.welcome():
                os.kill(os.getpid(), signal.SIGTERM)
        except KeyboardInterrupt as reason:
            raise kind("the connection is lost") from reason
    assert not interrupts.stop_asked()


def test_one_that_is_still_kept_is_raised_in_the_end():
    with pytest.raises(interrupts.Terminated), interrupts.taken():
        os.kill(os.getpid(), signal.SIGTERM)
        raise OSError("what was under way failed")
    assert not interrupts.stop_asked()
