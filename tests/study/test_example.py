"""The whole search on something that is not MRI, through the public names alone: as the README shows it."""

import pytest
import torch
from torch import nn

import ssdtune


@pytest.mark.filterwarnings("ignore::ssdtune.fisher.analysis.FisherWarning")
def test_a_classifier_forgets_a_class():
    torch.manual_seed(1)
    centres = torch.tensor([[2.0, 0.0], [-2.0, 1.0], [0.0, -2.5]])
    data = [(centre + 0.6 * torch.randn(2), torch.tensor(k)) for k, centre in enumerate(centres) for _ in range(20)]
    points, labels = (torch.stack(part) for part in zip(*data, strict=True))
    model = nn.Sequential(nn.Linear(2, 24), nn.Tanh(), nn.Linear(24, 3))
    optimiser = torch.optim.Adam(model.parameters(), lr=0.03)
    for _ in range(60):
        optimiser.zero_grad()
        nn.functional.cross_entropy(model(points), labels).backward()
        optimiser.step()

    task = ssdtune.Task(
        model=model,
        loss=nn.functional.cross_entropy,
        retain=data[:40],
        forget=data[40:],
        quality=lambda output, label: output.softmax(-1).gather(-1, label[:, None])[:, 0],
        floor=0.0,  # a model that never saw the class gives it no probability
    )
    fisher = ssdtune.analyse(task)
    study = ssdtune.tune(task, trials=25, analysis=fisher)
    model.load_state_dict(ssdtune.unlearned_params(study, task, fisher), strict=True)

    right = model(points).argmax(-1) == labels
    assert right[:40].float().mean() > 0.95
    assert right[40:].float().mean() < 0.5
