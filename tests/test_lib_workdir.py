"""Work folders: whose owner is dead are swept, and nothing else."""
import fcntl
import os

import pytest

from hwgen.emit import replace
from hwgen.lib.workdir import MARK, sweep, work_folder


@pytest.fixture
def dead(tmp_path):
    """A work folder that a dead process has left."""
    folder = tmp_path / ".out-abc_1234"
    (folder / "old").mkdir(parents=True)
    (folder / MARK).touch()
    return folder


def names(folder):
    return {path.name for path in folder.iterdir()}


def test_it_ends_with_its_owner_and_sweeps(tmp_path, dead):
    with work_folder(tmp_path, ".out-") as work:
        assert names(tmp_path) == {work.name} and names(work) == {MARK}
        with work_folder(tmp_path, ".out-") as other:       # two side by side
            assert names(tmp_path) == {work.name, other.name}
    assert names(tmp_path) == set()


def test_others_stay(tmp_path, dead):
    theirs = {".out-notes", ".out-notes123", ".outer-abc_1234", "out-abc_1234", ".out-ABC_1234", ".out-link1234"}
    for name in theirs - {".out-link1234"}:
        (tmp_path / name).mkdir()
    (tmp_path / ".outer-abc_1234" / MARK).touch()
    (tmp_path / ".out-link1234").symlink_to(dead)
    sweep(tmp_path, ".out-")
    assert names(tmp_path) == theirs


def test_one_that_another_process_sweeps_stays(tmp_path, dead):
    lock = os.open(dead / MARK, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    sweep(tmp_path, ".out-")
    assert dead.exists()
    os.close(lock)
    sweep(tmp_path, ".out-")
    assert not dead.exists()


def test_a_folder_that_cannot_be_read_is_no_reason_to_stop(tmp_path):
    sweep(tmp_path / "nowhere", ".out-")


@pytest.mark.parametrize("moved", [True, False])
def test_what_emit_was_moving_when_it_was_killed_is_not_lost(tmp_path, dead, moved):
    (dead / "old/manifest.json").write_text('{"generator": {"hwgen": "0"}, "files": {"out.v": ""}}')
    (dead / "old/out.v").write_text("theirs")
    (dead / "old/notes.txt").write_text("years of work")
    if moved:
        (tmp_path / "out").mkdir()
    sweep(tmp_path, ".out-", rescue=lambda folder: replace.rescue(tmp_path / "out", folder / "old"))
    assert names(tmp_path) == {"out"} and (tmp_path / "out/notes.txt").read_text() == "years of work"
    assert (tmp_path / "out/out.v").exists() != moved
