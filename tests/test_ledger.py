"""The ledger takes only complete entries, and the documents state what it says."""

import json

import pytest

from tools import digests, ledger, tables


ENTRY = {"name": "demo/rate", "value": 16.28, "unit": "tok/s", "kind": "measured", "command": "make demo",
         "commit": "0123456789", "machine": "a CPU, 2 cores", "date": "2025-01-31",
         "sources": digests.spelled(["rtl:specimen"], digests.committed().get)}


@pytest.mark.parametrize("path", sorted(ledger.RESULTS.glob("*.json")), ids=lambda path: path.name)
def test_results_are_well_formed(path):
    ledger.load(path)


def test_documents_hold_what_the_ledger_says():
    assert [str(path) for path in tables.stale()] == [], "run: python -m tools.tables"


@pytest.mark.parametrize("change, complaint", [
    ({"value": "fast"}, "finite number"), ({"value": float("nan")}, "finite number"),
    ({"value": True}, "finite number"),
    ({"kind": "guessed"}, "Kind"), ({"command": ""}, "must not be empty"), ({"command": "cat /tmp/x"}, "any checkout"),
    ({"date": "yesterday"}, "YYYY-MM-DD"), ({"name": "a|b"}, "cell"), ({"extra": 1}, "fields"), ({"unit": 3}, "str"),
    ({"sources": 3}, "str"), ({"cpu_seconds": "3"}, "int"),
])
def test_refused(tmp_path, change, complaint):
    with pytest.raises(ledger.LedgerError, match=complaint):
        ledger.record(tmp_path / "a.json", [{**ENTRY, **change}])
    assert list(tmp_path.iterdir()) == []


def test_record_merges_by_name(tmp_path):
    file = tmp_path / "a.json"
    ledger.record(file, [ENTRY, {**ENTRY, "name": "demo/cycles", "value": 7, "unit": ""}])
    ledger.record(file, [{**ENTRY, "value": 17}])
    assert [(e["name"], e["value"]) for e in ledger.load(file)] == [("demo/cycles", 7), ("demo/rate", 17)]
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_record_fills_in_where_and_when(tmp_path):
    given = {field: ENTRY[field] for field in ("name", "value", "unit", "kind", "command")}
    ledger.record(tmp_path / "a.json", [given])
    entry, = ledger.load(tmp_path / "a.json")
    assert entry["machine"] == ledger.machine() and entry["commit"] and len(entry["date"]) == 10
    assert type(entry["cpu_seconds"]) is int


def test_load_refuses_disorder(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps([ENTRY, ENTRY]))
    with pytest.raises(ledger.LedgerError, match="each name once"):
        ledger.load(tmp_path / "a.json")


@pytest.fixture
def checkout(tmp_path):
    """A checkout with a README that has one marker of each form, filled."""
    ledger.record(tmp_path / "docs" / "results" / "a.json",
                  [ENTRY, {**ENTRY, "name": "big/rate", "value": 12345}, {**ENTRY, "name": "big/size", "unit": "LUT"},
                   {**ENTRY, "name": "busy/share", "value": 0.4251, "unit": ""}])
    readme = tmp_path / "README.md"
    readme.write_text("x\n<!-- ledger:a.json:demo/* -->\n<!-- end -->\n"
                      "<!-- ledger:a.json:big/*,demo/*:pivot -->\n<!-- end -->\n"
                      "about <!-- ledger:a.json:demo/rate:inline --><!-- end -->, see\n"
                      "<!-- ledger:a.json:busy/*:percent --><!-- end --> of the time\n<!-- "
                      "ledger:a.json:busy/*:pivot% -->\n<!-- end -->\n"
                      "`<!-- ledger:none.json:* --><!-- end -->`\n")
    for path, text in tables.stale(tmp_path).items():
        path.write_text(text)
    return tmp_path


def test_tables(checkout):
    text = (checkout / "README.md").read_text()
    assert "| demo/rate | 16.28 tok/s | measured | `make demo` |" in text
    assert "|  | rate | size |" in text and "| big | 12,345 tok/s | 16.28 LUT |" in text
    assert "about <!-- ledger:a.json:demo/rate:inline -->16.28 tok/s<!-- end -->, see" in text
    assert "<!-- ledger:a.json:busy/*:percent -->42.51 %<!-- end --> of the time" in text
    assert "| busy | 42.51 % |" in text
    assert "`<!-- ledger:none.json:* --><!-- end -->`" in text
    assert tables.stale(checkout) == {}


def test_a_stale_number_is_found(checkout):
    readme = checkout / "README.md"
    readme.write_text(readme.read_text().replace("12,345", "99,999"))
    assert list(tables.stale(checkout)) == [readme]


def test_a_marker_that_selects_nothing_is_refused(checkout):
    (checkout / "README.md").write_text("<!-- ledger:a.json:none/* -->\n<!-- end -->")
    with pytest.raises(ledger.LedgerError, match="must select"):
        tables.stale(checkout)


def test_a_percentage_of_luts_is_refused(checkout):
    (checkout / "README.md").write_text("<!-- ledger:a.json:big/size:percent --><!-- end -->")
    with pytest.raises(ledger.LedgerError, match="must be a fraction"):
        tables.stale(checkout)


@pytest.mark.parametrize("value, text", [
    (7, "7"), (1234567, "1,234,567"), (0.01234567, "0.01235"), (1.5, "1.500"), (12.3456, "12.35"), (9999.6, "10,000"),
    (123456.7, "123,457"), (-2.0, "-2")])
def test_number(value, text):
    assert tables.number(value) == text
