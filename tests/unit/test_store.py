import stat

import pytest

from privoxel.errors import StoreError
from privoxel.store import ID_KEY, atomic_path, differences, open_run

SETTINGS = {"config": {"seed": 1, "training": {"epochs": 2}}}


def start(path, settings=SETTINGS, *, resume=False):
    return open_run(path, settings, resume=resume, facts={"versions": {"privoxel": "0"}})


def test_a_new_run_starts_empty_and_incomplete(tmp_path):
    folder = start(tmp_path / "run")
    assert not folder.is_complete
    assert not folder.done("training")
    assert folder.manifest["versions"] == {"privoxel": "0"}


def test_the_same_settings_continue_with_resume_only(tmp_path):
    start(tmp_path / "run").finish("training", seconds=1.5)
    with pytest.raises(StoreError, match="Continue it with --resume"):
        start(tmp_path / "run")
    folder = start(tmp_path / "run", resume=True)
    assert folder.done("training")
    assert folder.manifest["steps"]["training"] == {"seconds": 1.5}


def test_other_settings_are_refused_with_the_difference(tmp_path):
    start(tmp_path / "run")
    other = {"config": {"seed": 2, "training": {"epochs": 2, "threads": 1}}}
    with pytest.raises(StoreError) as caught:
        start(tmp_path / "run", other, resume=True)
    assert "config.seed: the folder has 1, now 2" in str(caught.value)
    assert "config.training.threads: the folder has '(unset)', now 1" in str(caught.value)
    assert "epochs" not in str(caught.value)


def test_a_folder_with_other_files_is_refused(tmp_path):
    (tmp_path / "thesis.docx").write_text("x")
    with pytest.raises(StoreError, match="empty or new folder"):
        start(tmp_path)


def test_equal_settings_have_no_differences():
    assert list(differences(SETTINGS, SETTINGS)) == []


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")

    def fail_half_way():
        with atomic_path(path) as temporary:
            temporary.write_text("half")
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        fail_half_way()
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_hashes_are_keyed_and_the_key_is_private(tmp_path):
    first, second = start(tmp_path / "a"), start(tmp_path / "b")
    assert first.hashed("017") == first.hashed("017") != first.hashed("018")
    assert first.hashed("017") != second.hashed("017")
    assert "017" not in first.hashed("017")
    assert stat.S_IMODE((tmp_path / "a" / ID_KEY).stat().st_mode) == 0o600
