"""The committed specimen is what the generator writes today, byte for byte."""
from pathlib import Path

from hwgen.cli import main

SPECIMEN = Path(__file__).parent.parent / "rtl_out" / "specimen"


def test_specimen_is_current(tmp_path):
    """`make specimen` writes it again."""
    main(["emit", "demo", "--shape", "tiny", "--name", "specimen", "-o", str(tmp_path / "specimen")])
    written = {p.name: p.read_bytes() for p in (tmp_path / "specimen").iterdir()}
    committed = {p.name: p.read_bytes() for p in SPECIMEN.iterdir()}
    assert sorted(written) == sorted(committed)
    for name, text in written.items():
        assert text == committed[name], (f"rtl_out/specimen/{name} is not what hwgen emits: "
                                         "run `make specimen` and look at the difference")
