"""Recordings read what they are given: other parameters, slices and maps give other images, the same as without."""

import pytest
import torch

from ssdtune.scoring.captured import RECORD_AT, Captured
from ssdtune.scoring.evaluator import Evaluator


class Recorder:
    """Stands for CUDA graphs on a CPU: runs the same again on the same tensors, into the same output."""

    def __init__(self):
        self.made = self.replayed = 0

    def __call__(self, run):
        self.made += 1
        output = run().clone()

        def replay():
            self.replayed += 1
            output.copy_(run())

        return replay, output


@pytest.fixture
def parts(mri_task, dampened):
    """(network, params, slices) of two kinds each."""
    task = mri_task()
    evaluator = Evaluator(task, batch_size=2)
    batches = list(evaluator.prepared("retain").batches(0, 8, evaluator.batch_of))
    alike = [batch.sample for batch in batches if batch.sample.rows.shape == (2, 2, 32, 32)]
    return evaluator.network, [task.params, dampened(task)], alike


@torch.no_grad()
def test_recordings_give_what_the_network_gives(parts):
    network, params, samples = parts
    recorder = Recorder()
    captured = Captured(network, recorder)
    kept = []
    for number in range(RECORD_AT + 4):
        for one in params:
            ready, sample = captured.ready(one), samples[number % len(samples)]
            maps = network.maps(ready, sample)
            torch.testing.assert_close(captured.maps(ready, sample), maps)
            kept.append((captured(ready, sample, maps), network(ready, sample, maps)))
    for found, expected in kept:  # none was written over by a later one
        torch.testing.assert_close(found, expected)
    assert recorder.made == 2  # maps and images
    assert recorder.replayed == 2 * (2 * (RECORD_AT + 4) - RECORD_AT + 1)


@torch.no_grad()
def test_what_cannot_be_recorded_runs_as_it_is(parts):
    def refuse(run):
        raise RuntimeError("operation not permitted when stream is capturing")

    network, params, samples = parts
    captured = Captured(network, refuse)
    expected = network.maps(params[1], samples[0])
    for _ in range(RECORD_AT + 2):
        torch.testing.assert_close(captured.maps(params[1], samples[0]), expected)


@torch.no_grad()
def test_released_recordings_are_made_anew(parts):
    network, params, samples = parts
    recorder = Recorder()
    captured = Captured(network, recorder)
    for one in params:
        for _ in range(RECORD_AT):
            found = captured.maps(one, samples[0])
        torch.testing.assert_close(found, network.maps(one, samples[0]))
        captured.release()
    assert recorder.made == 2
