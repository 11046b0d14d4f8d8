"""Right or refused: models with one thing or several otherwise than usual, against recorded logits of the oracles."""
import collections

import pytest

import differential_cases as differential

CASES = differential.recorded_cases()
RECORDS = differential.read_oracle()


@pytest.mark.parametrize("kind", ["folder", "gguf"])
def test_agrees_or_refuses_by_name(tmp_path, record_property, kind):
    cases = [case for case in CASES if case.kind == kind]
    outcomes = {case.name: differential.compare(case, RECORDS[case.name], tmp_path / str(i))
                for i, case in enumerate(cases)}
    counts = collections.Counter(outcome for outcome, _ in outcomes.values())
    record_property("counted", f"differential test, {kind}: {counts['agreed']} agree with the oracle, "
                               f"{counts['refused']} are refused by name")
    differed = [f"{name}: {detail}" for name, (outcome, detail) in outcomes.items() if outcome == "differed"]
    assert not differed, "\n".join(differed)
    assert len(cases) >= 40 and min(counts["agreed"], counts["refused"]) >= 20


def test_records_are_of_these_models():
    assert {case.name: case.draft().digest() for case in CASES} == {
        name: record["digest"] for name, record in RECORDS.items()}, "run python -m tools.record_oracle"


@pytest.mark.parametrize("change, detail", [
    (lambda logits: logits * 1.001, "logits off by 0.001"), (lambda logits: logits[:, 1:], "logits are")])
def test_other_logits_differ(tmp_path, change, detail):
    case = differential.Case("folder", [differential.CHANGES["folder"][0]], 0)
    record = {"logits": change(RECORDS[case.name]["logits"])}
    outcome, found = differential.compare(case, record, tmp_path / "model")
    assert outcome == "differed" and found.startswith(detail)
