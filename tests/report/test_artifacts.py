"""Where pictures are kept: a folder, or a bucket."""

import optuna
import pytest
from optuna.artifacts import get_all_artifact_meta

from ssdtune.errors import ConfigError, StorageError
from ssdtune.report.artifacts import artifact_place, open_artifacts, remove_artifacts
from ssdtune.report.dashboard import attach


def test_a_place_is_given_or_named_by_the_environment_or_beside_the_database(monkeypatch):
    monkeypatch.delenv("SSDTUNE_ARTIFACTS", raising=False)
    assert artifact_place(storage="sqlite:///lab/studies.db") == "lab/studies_artifacts"
    assert artifact_place(storage="postgresql://lab@host/studies") is None
    assert artifact_place() is None and open_artifacts(None) is None
    monkeypatch.setenv("SSDTUNE_ARTIFACTS", "s3://pictures")
    assert artifact_place(storage="sqlite:///lab/studies.db") == "s3://pictures"
    assert artifact_place("mine") == "mine"


@pytest.mark.parametrize("place", ["ftp://x/y", "s3://", "s3://bucket/prefix", "s3:/bucket"])
def test_other_places_are_refused(place):
    with pytest.raises(ConfigError, match="not a place of artifacts"):
        open_artifacts(place)


@pytest.mark.parametrize("place", ["s3://AKIA:hunter2@bucket", "s3://bucket?endpoint=https://AKIA:hunter2@minio:9000"])
def test_a_key_in_the_url_is_refused_and_not_repeated(place):
    with pytest.raises(ConfigError, match="a key in the URL") as caught:
        open_artifacts(place)
    assert "hunter2" not in str(caught.value)


def test_pictures_go_to_a_bucket_and_replace_their_earlier_selves(new_study, storage, tmp_path, monkeypatch):
    moto = pytest.importorskip("moto", reason="moto is not installed")
    import boto3

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    picture = tmp_path / "retain.png"
    with moto.mock_aws():
        boto3.client("s3").create_bucket(Bucket="pictures")
        store = open_artifacts("s3://pictures")
        study = new_study(storage=storage)
        for content in (b"first", b"second"):
            picture.write_bytes(content)
            attach(study, pictures={"retain": picture}, artifacts=store)
        (meta,) = get_all_artifact_meta(optuna.load_study(study_name="demo", storage=storage))
        assert store.open_reader(meta.artifact_id).read() == b"second"
        assert remove_artifacts(study, None) == 1
        assert remove_artifacts(study, store) == 0
        assert remove_artifacts(study, store) == 1  # gone already
        assert boto3.client("s3").list_objects(Bucket="pictures").get("Contents", []) == []
        with pytest.raises(StorageError, match="cannot write an artifact"):
            attach(study, pictures={"retain": picture}, artifacts=open_artifacts("s3://absent"))


def test_a_study_that_is_deleted_takes_its_pictures_along(new_study, storage, tmp_path, monkeypatch, capsys):
    from ssdtune.cli import main
    from ssdtune.study.storage import open_storage

    url, folder, picture = f"sqlite:///{tmp_path}/studies.db", tmp_path / "pictures", tmp_path / "retain.png"
    monkeypatch.delenv("SSDTUNE_ARTIFACTS", raising=False)
    picture.write_bytes(b"content")
    for name, place in (("here", folder), ("elsewhere", None)):
        study = new_study(name=name, storage=open_storage(url, create=True))
        attach(study, pictures={"retain": picture}, artifacts=open_artifacts(str(folder), create=True))
        if place:
            monkeypatch.setenv("SSDTUNE_ARTIFACTS", str(place))
        else:
            monkeypatch.delenv("SSDTUNE_ARTIFACTS")
        main(["study", "delete", name, "--yes", "--storage", url])
        told = capsys.readouterr()
        assert f"deleted study {name}" in told.out
        assert ("1 pictures of it stay" in told.err) == (place is None)
        assert len(list(folder.iterdir())) == (place is None)
