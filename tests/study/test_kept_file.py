"""The file of a storage goes away while it is used: said at once, and no other is made."""

import optuna
import pytest

from ssdtune.errors import StorageError
from ssdtune.study.patience import Patience, waited_for
from ssdtune.study.sqlite import quick_commits
from ssdtune.study.storage import open_storage


@pytest.mark.filterwarnings("ignore:Heartbeat")
@pytest.mark.parametrize("replaced", [False, True])
@pytest.mark.parametrize("kind", ["sqlite", "journal"])
def test_nothing_is_written_that_nobody_would_find(kind, replaced, tmp_path):
    file, url = tmp_path / "studies", f"{kind}:///{tmp_path}/studies"
    storage = open_storage(url, create=True)
    study = optuna.create_study(storage=waited_for(storage, Patience(60.0)))
    with quick_commits(storage):
        trial = study.ask()
        file.rename(tmp_path / "elsewhere")
        if replaced:
            file.write_bytes(b"")
        with pytest.raises(StorageError, match="removed or replaced while in use"):
            study.tell(trial, 1.0)
    assert file.exists() == replaced
    if not replaced:
        (tmp_path / "elsewhere").rename(file)
        assert len(open_storage(url).get_all_studies()) == 1
