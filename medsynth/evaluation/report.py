"""One report of all measurements: JSON for programs, HTML and Markdown for people.

Sections are measured by different commands at different times; each replaces its own and leaves
the others alone. The HTML holds everything, pictures included, and opens without a network.
"""

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, select_autoescape
from markupsafe import Markup, escape

from medsynth import __version__
from medsynth.core.paths import write_text
from medsynth.errors import DataError
from medsynth.evaluation.records import SCHEMA, Section
from medsynth.io.sidecar import read_json, write_json

ORDER = ("utility", "consistency", "fidelity", "privacy", "table")
MARKS = {"good": "✓", "bad": "✗", "unknown": "?"}


@dataclass(frozen=True)
class Picture:
    """A PNG in the report's `pictures/` and what it shows."""

    file: str
    caption: str


def update(
    folder: Path, section: Section, pictures: Sequence[Picture], facts: Sequence[str] = ()
) -> Path:
    """Put a section into the report, in the place of an older one, and render it anew.

    Args:
        folder: `REPORT`; gets `report.json`, `report.html`, `report.md`.
        section: What was measured.
        pictures: PNGs below `REPORT/pictures/`.
        facts: Further words on how it was done: command, cohorts, date.

    Returns:
        `report.html`.

    Raises:
        DataError: A report of another schema stands there.
    """
    path = folder / "report.json"
    empty: dict[str, Any] = {"schema": SCHEMA, "records": [], "sections": {}}
    old = read_json(path) if path.exists() else empty
    if old.get("schema") != SCHEMA:
        raise DataError(
            f"a report of schema {SCHEMA}", repr(old.get("schema")), path,
            "Choose another --out.",
        )  # fmt: skip
    records = [r for r in old["records"] if r["section"] != section.name]
    records += [record.to_json() for record in section.records]
    sections = old["sections"] | {
        section.name: {
            "title": section.title,
            "method": [*section.method, *facts],
            "tables": [
                {"title": t.title, "head": list(t.head), "rows": [list(row) for row in t.rows]}
                for t in section.tables
            ],
            "verdicts": [{"grade": v.grade, "text": v.text} for v in section.verdicts],
            "limits": list(section.limits),
            "pictures": [{"file": p.file, "caption": p.caption} for p in pictures],
        }
    }
    data = {"schema": SCHEMA, "medsynth": __version__, "records": records, "sections": sections}
    write_json(path, data)
    write_text(folder / "report.md", markdown(data))
    write_text(folder / "report.html", html(data, folder))
    return folder / "report.html"


def html(data: dict[str, Any], folder: Path) -> str:
    """The page, with its pictures inside."""
    environment = Environment(
        loader=PackageLoader("medsynth.evaluation", "."),
        autoescape=select_autoescape(["html", "j2"]),
        trim_blocks=True,
        lstrip_blocks=True,
    )

    def inline(file: str) -> str:
        raw = (folder / "pictures" / file).read_bytes()
        return "data:image/png;base64," + base64.b64encode(raw).decode()

    environment.filters["words"] = _words
    page = environment.get_template("report.html.j2")
    return page.render(sections=_ordered(data), marks=MARKS, inline=inline, version=__version__)


def markdown(data: dict[str, Any]) -> str:
    """Verdicts and tables, to paste into a README."""
    lines = ["# medsynth report", ""]
    for section in _ordered(data):
        lines += [f"## {section['title']}", ""]
        lines += [f"- {MARKS[v['grade']]} {v['text']}" for v in section["verdicts"]] + [""]
        for table in section["tables"]:
            lines += [f"**{table['title']}**", ""]
            lines.append("| " + " | ".join(table["head"]) + " |")
            lines.append("|" + "---|" * len(table["head"]))
            lines += ["| " + " | ".join(row) + " |" for row in table["rows"]] + [""]
        lines += [*section["method"], "", "What these figures cannot tell:", ""]
        lines += [f"- {limit}" for limit in section["limits"]] + [""]
    return "\n".join(lines)


def _words(text: str) -> Markup:
    """Markdown's `code` and *emphasis* as HTML."""
    safe = re.sub(r"`(.+?)`", r"<code>\1</code>", str(escape(text)))
    return Markup(re.sub(r"\*(\S.*?)\*", r"<em>\1</em>", safe))  # escaped above


def _ordered(data: dict[str, Any]) -> list[dict[str, Any]]:
    found = data["sections"]
    names = [*(n for n in ORDER if n in found), *(n for n in found if n not in ORDER)]
    return [found[name] | {"name": name} for name in names]
