"""The report: sections replace their own, and the page opens without a network."""

import json
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medsynth.errors import DataError
from medsynth.evaluation import report
from medsynth.evaluation.records import (
    Record,
    Section,
    Table,
    Verdict,
    counted,
    interval,
    judged,
    number,
    refused,
    share,
)

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)


def section(name: str, value: float) -> Section:
    return Section(
        name,
        f"Section {name}",
        ("How it was measured.",),
        (Record(name, "dice", {"region": "WT"}, value, 0.1, 0.9, n=7),),
        (Table("A table", ("figure", "value"), (("dice <b>", f"{value}"),)),),
        (Verdict("bad", f"Verdict {value}."), Verdict("unknown", "Nobody knows.")),
        ("It cannot tell everything.",),
    )


def test_a_section_replaces_its_own_and_leaves_the_others(tmp_path: Path) -> None:
    report.update(tmp_path, section("privacy", 0.3), [])
    report.update(tmp_path, section("utility", 0.5), [])
    report.update(tmp_path, section("privacy", 0.7), [])
    data = json.loads((tmp_path / "report.json").read_text())
    assert data["schema"] == "medsynth-report/1"
    found = {r["section"]: r["value"] for r in data["records"]}
    assert found == {"utility": 0.5, "privacy": 0.7}
    keys = set(data["records"][0])
    assert keys == {
        "section", "metric", "where", "value", "low", "high", "floor", "ceiling", "n", "seeds",
        "steps", "people",
    }  # fmt: skip
    text = (tmp_path / "report.md").read_text()
    assert text.index("Section utility") < text.index("Section privacy")
    assert "0.3" not in text


def test_another_schema_is_refused(tmp_path: Path) -> None:
    (tmp_path / "report.json").write_text('{"schema": "medsynth-report/9"}')
    with pytest.raises(DataError, match="medsynth-report/9"):
        report.update(tmp_path, section("privacy", 0.3), [])


def test_words_are_set_as_they_are_meant(tmp_path: Path) -> None:
    told = replace(section("utility", 0.5), limits=("Against *real*, `a < b`, 2 * 3 * 4.",))
    text = report.update(tmp_path, told, []).read_text()
    assert "Against <em>real</em>, <code>a &lt; b</code>, 2 * 3 * 4." in text


def test_the_page_holds_everything_and_fetches_nothing(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    Image.new("RGB", (40, 20), (200, 30, 30)).save(tmp_path / "pictures" / "red.png")
    page = report.update(tmp_path, section("utility", 0.5), [report.Picture("red.png", "Red")])
    text = page.read_text()
    assert "data:image/png;base64," in text
    assert "http" not in text
    assert "dice &lt;b&gt;" in text
    assert "What these figures cannot tell" in text


def test_figures_are_set_as_people_write_them() -> None:
    eleven = counted("privacy", "copies", {}, 11, 16)
    assert share(eleven) == interval(eleven, 3) == "11 of 16 [41 %, 89 %]"  # Clopper and Pearson
    assert number(11) == "11"
    assert number(-0.25) == "−0.25"
    assert json.loads(json.dumps(eleven.to_json()))["value"] == 11


def test_a_section_always_judges_and_has_no_empty_table() -> None:
    bare = replace(
        section("fidelity", 0.5),
        verdicts=(),
        records=(refused("fidelity", "mmd_p", "needs 8 real people"),),
        tables=(Table("Empty", ("a",), ()), Table("Full", ("a",), (("b",),))),
    )
    done = judged(bare)
    assert [t.title for t in done.tables] == ["Full"]
    assert [v.grade for v in done.verdicts] == ["unknown"]
    assert "mmd p needs 8 real people" in done.verdicts[0].text
    assert judged(section("fidelity", 0.5)).verdicts == section("fidelity", 0.5).verdicts


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium to render the page")
def test_chromium_renders_the_page(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    Image.new("RGB", (400, 200), (200, 30, 30)).save(tmp_path / "pictures" / "red.png")
    page = report.update(tmp_path, section("utility", 0.5), [report.Picture("red.png", "Red")])
    shot = tmp_path / "shot.png"
    subprocess.run(
        [
            str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", f"--screenshot={shot}",
            "--window-size=1000,1400", page.as_uri(),
        ],
        check=True, capture_output=True, timeout=120,
    )  # fmt: skip
    pixels = np.asarray(Image.open(shot).convert("RGB")).astype(int)
    red = (np.abs(pixels - (200, 30, 30)).sum(2) < 20).sum()
    assert red > 400 * 200 * 0.9  # the picture is there
    assert (pixels.sum(2) < 300).sum() > 2000  # and text
