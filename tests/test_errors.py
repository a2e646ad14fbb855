"""What an error suggests."""

import pytest

from ssdtune.errors import near_file


@pytest.mark.parametrize(
    ("missing", "suggested"),
    [
        ("mine.tml", "mine.toml"),
        ("varnet.pt", "varnet.ckpt"),
        ("trian", "train"),
        ("Mine.toml", "mine.toml"),
        ("scan_7.h5", None),
        ("other.toml", None),
        ("mine.toml", None),
        ("no_folder/mine.toml", None),
    ],
)
def test_a_file_that_is_not_there_has_its_near_name_suggested(tmp_path, missing, suggested):
    """Not another of a numbered series, not what is there and cannot be read, nothing far."""
    for name in ("mine.toml", "varnet.ckpt", "train", "scan_1.h5", "scan_2.h5"):
        (tmp_path / name).touch()
    expected = f"did you mean '{tmp_path / suggested}'?" if suggested else "check the path"
    assert near_file(tmp_path / missing) == expected
