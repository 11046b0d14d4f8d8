"""Models that are found before their Verilog is there: the right one, or none."""
import os

import pytest

from hwgen.host.links import verilated
from hwgen.host.links.verilated import remembered
from hwgen.lib import generator
from hwgen.params.tables import changed, reciprocal_table


@pytest.fixture
def sources(tmp_path, monkeypatch):
    """A folder that stands for hwgen's, with a source file; it is older than this process."""
    monkeypatch.setattr(generator, "_PACKAGE", tmp_path / "hwgen")
    (tmp_path / "hwgen" / "units").mkdir(parents=True)
    file = tmp_path / "hwgen" / "units" / "rope.py"
    write(file, "turn = 1\n")
    return file


@pytest.fixture
def made(tmp_path, monkeypatch, sources):
    """[about] of what was made, in a cache of its own, by ``made.ask(about)``, which returns what is found or made."""
    monkeypatch.setenv("HWGEN_CACHE", str(tmp_path / "cache"))

    class Made(list):
        def ask(self, about, during=lambda: None):
            def make():
                executable = tmp_path / "cache" / "models" / f"top-{len(self)}" / "model"
                executable.parent.mkdir(parents=True)
                executable.write_text("")
                self.append(about)
                during()
                return executable
            return remembered(about, make)
    return Made()


def write(file, text, age=100):
    file.write_text(text)
    os.utime(file, (generator._BEGAN - age,) * 2)


def test_a_model_is_made_once_for_what_it_is_made_from(made):
    first, again, other = made.ask(("top", 1)), made.ask(("top", 1)), made.ask(("top", 2))
    assert first == again != other and made == [("top", 1), ("top", 2)]


def test_a_changed_line_of_the_generator_misses_whatever_its_time_and_size(made, sources):
    first = made.ask("top")
    before = sources.stat()
    write(sources, "turn = 2\n")
    assert (sources.stat().st_mtime, sources.stat().st_size) == (before.st_mtime, before.st_size)
    second = made.ask("top")
    write(sources, "turn = 1\n")
    assert made.ask("top") == first != second and len(made) == 2


def test_files_have_their_places_in_the_digest(sources):
    before = generator.generator()
    sources.rename(sources.with_name("turn.py"))
    assert generator.generator() != before


def test_a_file_newer_than_the_process_is_not_trusted(made, sources):
    write(sources, "turn = 1\n", age=-100)
    assert generator.generator() is None and made.ask("top") != made.ask("top")


def test_what_changed_while_it_was_made_is_not_remembered(made, sources):
    made.ask("top", during=lambda: write(sources, "turn = 2\n"))
    made.ask("top")
    write(sources, "turn = 1\n")
    made.ask("top")
    assert len(made) == 3


def test_a_machine_with_a_wrong_constant_is_another(made):
    made.ask("top")
    with changed("reciprocal_table", reciprocal_table()):
        made.ask("top")
    assert len(made) == 2


def test_another_compiler_misses(made, monkeypatch):
    made.ask("top")
    monkeypatch.setattr(verilated.verilator, "tool_versions", lambda: {"c++": "another"})
    made.ask("top")
    assert len(made) == 2


def test_a_model_that_was_deleted_is_made_again(made):
    made.ask("top").unlink()
    assert made.ask("top").exists() and len(made) == 2
