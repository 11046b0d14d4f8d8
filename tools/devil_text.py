"""The text that the adapter in hwgen/models/devil has read: Ambrose Bierce's Devil's Dictionary, without its verse, out
of the Debian package dict-devil (public domain). Needs apt-get and dpkg."""
import gzip
import pathlib
import re
import subprocess
import tempfile

__all__ = ["texts"]

#: Entries that have one of these are left out: of 1911, about peoples, and best not learnt.
_UNKIND = re.compile(r"nigg|negro|\bdark(?:y|ies)|\bjews?\b|jewish|hebrew|injun|chinam[ae]n|squaw|hottentot|savage|"
                     r"mulatto|african|mongol|ethiop", re.IGNORECASE)
_HELD = 20      # one of so many entries is not trained on


def _entries():
    """The dictionary's entries, without verse: a paragraph is a line."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["apt-get", "download", "dict-devil"], cwd=folder, check=True, stdout=subprocess.DEVNULL,
                       stderr=subprocess.DEVNULL)
        subprocess.run(["dpkg", "-x", next(pathlib.Path(folder).glob("*.deb")), folder], check=True)
        text = gzip.decompress(next(pathlib.Path(folder).rglob("devil.dict.dz")).read_bytes()).decode("latin-1")
    found = []
    for paragraph in re.split(r"\n\s*\n", text[text.index("ABASEMENT, n."):]):
        lines = paragraph.split("\n")
        if any(line.startswith("  ") for line in lines):
            continue        # verse, and who is said to have written it
        line = " ".join(paragraph.split()).replace("_", "").replace(" -- ", "--")
        if re.match(r"[A-Z][A-Z' -]+, [a-z.]+", line):
            found.append(line)
        elif found and len(line) > 40:
            found[-1] += "\n" + line
    return [entry for entry in found if not _UNKIND.search(entry)]


def texts(encode):
    """(tokens of each entry to train on, the tokens of all others one after the other), each entry with its line's
    end."""
    line = encode("\n")[1:]     # without the id that begins a prompt
    found = [[*encode(entry)[1:], *line] for entry in _entries()]
    return ([text for i, text in enumerate(found) if i % _HELD],
            [token for text in found[::_HELD] for token in text])
