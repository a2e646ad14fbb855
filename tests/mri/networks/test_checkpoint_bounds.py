"""Checkpoints that would hold more than their file does."""

import zipfile

import pytest
import torch

from ssdtune.errors import ModelError
from ssdtune.mri.networks.checkpoint import read_checkpoint


def test_a_tensor_that_repeats_a_small_storage_is_refused(tmp_path):
    torch.save({"a.weight": torch.zeros(1).expand(10**12)}, tmp_path / "model.pt")
    with pytest.raises(ModelError, match="more than the file holds"):
        read_checkpoint(tmp_path / "model.pt")


def test_compressed_entries_are_refused(tmp_path):
    torch.save({"a.weight": torch.zeros(2_000_000)}, tmp_path / "model.pt")
    with zipfile.ZipFile(tmp_path / "model.pt") as plain, zipfile.ZipFile(tmp_path / "bomb.pt", "w") as bomb:
        for entry in plain.infolist():
            bomb.writestr(entry.filename, plain.read(entry), zipfile.ZIP_DEFLATED)
    with pytest.raises(ModelError, match="expands"):
        read_checkpoint(tmp_path / "bomb.pt")


def test_weights_that_share_their_storage_are_sound(tmp_path):
    weight = torch.zeros(4, 4)
    torch.save({"a.weight": weight, "b.weight": weight, "c.row": weight[1]}, tmp_path / "model.pt")
    assert set(read_checkpoint(tmp_path / "model.pt").state) == {"a.weight", "b.weight", "c.row"}
