"""Builds where make cannot build, and where nobody can."""
import errno
import os
import shutil
import subprocess

import pytest

from hwgen.lib import verilator

SPACE = "a b $x:#%\u00e9'q\""


def build(folder):
    """What is built for ``folder``."""
    folder.mkdir(exist_ok=True)
    with verilator.build_folder(folder) as work:
        (work / "top.v").write_text("module top (input a, output y); assign y = !a; endmodule\n")
        (work / "main.cpp").write_text("int main() {}\n")
        return verilator.build([work / "top.v"], "top", cpp=[work / "main.cpp"], folder=work / "obj",
                               executable="model").read_text()


def compiler(monkeypatch, tmp_path, script):
    """A script as the compiler: a real one takes half a minute for Verilator's runtime."""
    for tool in ("c++", "g++"):
        (tmp_path / tool).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / tool).chmod(0o700)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")


def failing(monkeypatch, tmp_path, said):
    compiler(monkeypatch, tmp_path, f"echo '{said}' >&2\nexit 1")


def test_a_full_disk_is_no_page_of_log(monkeypatch, tmp_path):
    failing(monkeypatch, tmp_path, "cc1plus: fatal error: x.s: No space left on device")
    with pytest.raises(OSError, match="No space left on device") as caught:
        build(tmp_path / "work")
    assert caught.value.errno == errno.ENOSPC and caught.value.filename == str(tmp_path / "work/obj")


def test_a_full_disk_that_verilator_does_not_notice(monkeypatch, tmp_path):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(verilator.shutil, "disk_usage", lambda _: usage._replace(free=4096))
    with pytest.raises(OSError, match="No space left on device"):
        build(tmp_path / "work")


def test_a_compiler_without_memory_is_no_page_of_log(monkeypatch, tmp_path):
    failing(monkeypatch, tmp_path, "g++: fatal error: Killed signal terminated program cc1plus")
    with pytest.raises(verilator.VerilatorError, match=r"The C\+\+ compiler must have more memory.*\Z"):
        build(tmp_path / "work")


def test_make_builds_for_any_folder_with_tools_anywhere(monkeypatch, tmp_path):
    """Verilator and Python in a path with a space, and a folder with all that make and shells take for something
    else."""
    tools = tmp_path / "the tools"
    tools.symlink_to(verilator.root())
    monkeypatch.setattr(verilator, "root", lambda: tools)
    (tmp_path / "bin").mkdir()
    compiler(monkeypatch, tmp_path / "bin", 'while [ "$1" != -o ]; do shift; done; echo made >"$2"')
    with verilator.build_folder(tmp_path / SPACE) as work:
        assert SPACE not in str(work)
    assert build(tmp_path / SPACE) == "made\n"


def test_no_folder_to_build_in(monkeypatch, tmp_path):
    monkeypatch.setattr(verilator.os, "access", lambda *_: False)
    with pytest.raises(verilator.VerilatorError, match="TMPDIR names another"):
        build(tmp_path / SPACE)


def test_waivers_are_for_one_file_in_any_folder(tmp_path):
    """Not for files of which the names end alike, which are somebody else's."""
    (tmp_path / "chip.vlt").write_text(verilator.waiver_file("chip.v"))
    (tmp_path / "folder").mkdir()

    def said(file):
        (tmp_path / file).write_text("module chip(input wire unused);\nendmodule\n")
        return subprocess.run([verilator.root() / "bin/verilator_bin", "--lint-only", "-Wall", "chip.vlt", file],
                              cwd=tmp_path, env=verilator.environment(), capture_output=True, text=True).stderr

    assert said("chip.v") == said("folder/chip.v") == said(tmp_path / "chip.v") == ""
    assert "DECLFILENAME" in said("my_chip.v")
