"""Put the ledger's numbers into README.md and docs/*.md: ``python -m tools.tables`` (``--check`` only looks).

Between the marker lines, a table of the entries of ``docs/results/speed.json`` whose names match::

    <!-- ledger:speed.json:demo/* -->
    <!-- end -->

Patterns are those of a shell, several with commas. After a further colon comes the form: ``list`` (the default: one row
an entry), ``pivot`` (names ``row/column``, one row each ``row``), or ``inline`` (one value with its unit, for prose:
``<!-- ledger:speed.json:demo/rate:inline -->16.3 tok/s<!-- end -->``). ``pivot%`` and ``percent`` are the last two for
fractions of 1: ``42.50 %``.

A number that is older than what it depends on (`ledger.outdated`) is marked: in prose by the day of its run, ``16.3
tok/s (of 2025-01-31)``, under a table by a line.

Between ``<!-- families -->`` and the end marker, a table of the families of models, of ``docs/families.json`` (which
``python -m tools.record_families --measure`` writes; its field "rtl" is kept). Between ``<!-- families:count -->`` and
the end marker, how many families these are. Between ``<!-- shape -->`` and the end marker, a table of the fields of a
hardware shape, of `HwShape`'s own words.
"""

import argparse
from fnmatch import fnmatchcase
import json
from pathlib import Path
import re
import sys

from hwgen.models.families import FAMILIES
from hwgen.params.presets import field_meanings
from tools import ledger


ROOT = Path(__file__).resolve().parent.parent
MARKED = re.compile(r"(<!-- ledger:([^:\s]+):([^:>]+?)(?::(list|pivot|pivot%|inline|percent))? -->)(.*?)(<!-- end -->)",
                    re.DOTALL)
LIST = re.compile(r"(<!-- families -->)(.*?)(<!-- end -->)", re.DOTALL)
COUNT = re.compile(r"(<!-- families:count -->)(.*?)(<!-- end -->)", re.DOTALL)
SHAPE = re.compile(r"(<!-- shape -->)(.*?)(<!-- end -->)", re.DOTALL)
CODE = re.compile(r"(^```.*?^```|`[^`\n]+`)", re.DOTALL | re.MULTILINE)


def number(value):
    """A number as a reader wants it: four digits that count, thousands apart."""
    if isinstance(value, float) and not value.is_integer():
        digits = max(0, 4 - len(f"{abs(value):.0f}")) if abs(value) >= 1 else None
        return f"{value:.4g}" if digits is None else f"{value:,.{digits}f}"
    return f"{int(value):,}"


def quantity(entry):
    return f"{number(entry['value'])} {entry['unit']}".strip()


def percent(entry):
    """A fraction of 1, which has no unit."""
    if entry["unit"]:
        raise ledger.LedgerError(f"Entry {entry['name']} must be a fraction without a unit, not in {entry['unit']}")
    return f"{100 * entry['value']:.2f} %"


def dated(text, entry):
    """A number in prose, with the day of its run if it is older than what it depends on."""
    return text if ledger.outdated(entry) == [] else f"{text} (of {entry['date']})"


def mark(entries):
    """The line under a table that says how many of its numbers are older than what they depend on; or nothing."""
    old = [entry for entry in entries if ledger.outdated(entry) != []]
    if not old:
        return ""
    what = "All" if len(old) == len(entries) else f"{len(old)} of {len(entries)}"
    return (f"\n\n{what} values are older than the present machine or model: "
            f"measured {', '.join(sorted({entry['date'] for entry in old}))}.")


def table(header, rows):
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def as_list(entries):
    return table(["", "value", "kind", "command"],
                 [[e["name"], quantity(e), e["kind"], f"`{e['command']}`"] for e in entries])


def as_pivot(entries, cell=quantity):
    cells = {tuple(entry["name"].rsplit("/", 1)): entry for entry in entries}
    rows, columns = (list(dict.fromkeys(key[i] for key in cells)) for i in (0, 1))
    body = [[row, *(cell(cells[row, column]) if (row, column) in cells else "" for column in columns)]
            for row in rows]
    how = "; ".join(dict.fromkeys(f"{entry['kind']}: `{entry['command']}`" for entry in entries))
    return f"{table(['', *columns], body)}\n\n{how}"


def as_families(results):
    """A row for each recorded model: ``results`` is name -> {"float32", "rtl"}, where the name starts with the
    family's."""
    rows = [[f"`{family}`{comma}{more}", FAMILIES[family].features or "as Llama", f"{of['float32']:.1e}", of["rtl"]]
            for name, of in results.items() for family, comma, more in [name.partition(",")]]
    return table(["family (`model_type`)", "what it has", "largest float32 difference", "RTL checked"], rows)


def as_shape():
    """A row for each field of `HwShape`."""
    return table(["field", "default", "what it is"],
                 [[f"`{name}`", f"`{int(default) if isinstance(default, bool) else default}`", said.replace("``", "`")]
                                                      for name, (default, said) in field_meanings().items()])


def select(entries, patterns):
    """Entries in the order of the patterns, and of names within one."""
    chosen = [entry for pattern in patterns.split(",") for entry in entries
              if fnmatchcase(entry["name"], pattern.strip())]
    return list({entry["name"]: entry for entry in chosen}.values())


def render(text, results=None):
    """The document's text with all tables made new. LedgerError where a marker selects nothing."""
    def fill(match):
        opening, file, patterns, form, _, closing = match.groups()
        entries = select(ledger.load((results or ledger.RESULTS) / file), patterns)
        if not entries or form in ("pivot", "pivot%") and not all("/" in entry["name"] for entry in entries):
            raise ledger.LedgerError(f"Marker {opening} must select entries of its form")
        if form == "inline":
            return opening + ", ".join(dated(quantity(entry), entry) for entry in entries) + closing
        if form == "percent":
            return opening + ", ".join(dated(percent(entry), entry) for entry in entries) + closing
        made = {"pivot": as_pivot, "pivot%": lambda of: as_pivot(of, percent)}.get(form, as_list)(entries)
        return f"{opening}\n{made}{mark(entries)}\n{closing}"

    # Markers in code are examples of markers.
    parts = CODE.split(text)
    hidden = {}
    for index in range(1, len(parts), 2):
        if "<!-- ledger:" in parts[index]:
            key = f"\0{index}\0"
            hidden[key], parts[index] = parts[index], key
    text = MARKED.sub(fill, "".join(parts))
    if LIST.search(text) or COUNT.search(text):
        measured = json.loads(((results or ledger.RESULTS).with_name("families.json")).read_text())
        text = LIST.sub(lambda match: f"{match[1]}\n{as_families(measured)}\n{match[3]}", text)
        text = COUNT.sub(lambda match: f"{match[1]}{len({name.partition(',')[0] for name in measured})}{match[3]}",
                         text)
    text = SHAPE.sub(lambda match: f"{match[1]}\n{as_shape()}\n{match[3]}", text)
    for key, code in hidden.items():
        text = text.replace(key, code)
    return text


def documents(root=ROOT):
    pages = [root / "README.md", *sorted((root / "docs").rglob("*.md")), *sorted((root / "fpga").rglob("*.md"))]
    return [path for path in pages if path.exists()]


def stale(root=ROOT):
    """Documents whose tables are not what the ledger says: {path: the text it should have}."""
    texts = {path: path.read_text() for path in documents(root)}
    made = {path: render(text, root / "docs" / "results") for path, text in texts.items()}
    return {path: text for path, text in made.items() if text != texts[path]}


def main(arguments=None):
    parser = argparse.ArgumentParser(description="Put the ledger's numbers into README.md and docs/*.md.")
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 if a document is out of date")
    options = parser.parse_args(arguments)
    try:
        changed = stale()
    except (ledger.LedgerError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for path, text in changed.items():
        print(f"{path.relative_to(ROOT)} {'is out of date' if options.check else 'written'}")
        if not options.check:
            path.write_text(text)
    return 1 if options.check and changed else 0


if __name__ == "__main__":
    sys.exit(main())
