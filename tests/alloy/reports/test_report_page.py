"""The views of the report: the page, its charts, the Markdown and the terminal table."""

import json
import random
import re
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from places import ROOT
from report_sweep import (
    ARMS,
    Tree,
    load,
    read_lines,
    save_sweep,
    write_lines,
    write_run,
    write_sweep,
)

from alloy.reports.drawing.axis import linear_axis, share_axis
from alloy.reports.drawing.labels import Box, beside_point, place_labels
from alloy.reports.text import aligned, number, visible
from alloy.reports.writing.headline import escape_markdown, headline_table
from alloy.reports.writing.write import write_report

# --- the page --------------------------------------------------------------------------------


class Page(HTMLParser):
    """Elements with their attributes and own text, and which of them lie in a table cell."""

    VOID = ("meta", "link", "br", "wbr", "path", "polyline")

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, Tree, list[str]]] = []
        self.loose_digits: list[str] = []
        self._open: list[tuple[str, Tree, list[str]]] = []
        self.feed(html)
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = (tag, dict(attrs), [])
        self.elements.append(element)
        if tag not in self.VOID:
            self._open.append(element)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs), []))

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self._open.pop()[0] == tag

    def handle_data(self, data: str) -> None:
        for element in self._open:
            element[2].append(data)
        tags = [tag for tag, _, _ in self._open]
        named = any(tag == "bdi" or "data-path" in attrs for tag, attrs, _ in self._open)
        if "td" in tags and not named and any(c.isdigit() for c in data):
            self.loose_digits.append(data)


def at_path(whole_report: Tree, path: str) -> Any:
    value: Any = whole_report
    for part in path.split("."):
        value = value[int(part)] if isinstance(value, list) else value and value[part]
    return value


def readable(text: str) -> float:
    """The number that a text of the page shows, in the page's unit."""
    units = {"k": 1e3, "M": 1e6, "B": 1e9, "T": 1e12}
    plain = text.replace("−", "-").replace(",", "").replace("%", "").replace(" s", "").lstrip("+<")
    return float(plain[:-1]) * units[plain[-1]] if plain[-1] in units else float(plain)


def test_every_number_of_the_page_is_the_reports(
    whole_sweep: Path, whole_report: Tree, tmp_path: Path
) -> None:
    page = Page(write_report(whole_sweep, tmp_path).html.read_text(encoding="utf-8"))
    shown = [(a, "".join(t)) for _, a, t in page.elements if "data-path" in a]
    assert len(shown) > 400
    assert page.loose_digits == []
    for attrs, text in shown:
        value, kind = at_path(whole_report, attrs["data-path"]), attrs["data-kind"]
        if kind == "text":
            assert text == value
        elif kind == "json":
            cell = value[attrs["data-key"]]
            whole = cell if isinstance(cell, str) else json.dumps(cell)
            assert text.rstrip("…") == whole[: len(text.rstrip("…"))]
        elif value is None:
            assert text == "–", attrs
        else:
            scale = 100 if kind in ("percent", "share", "near_share", "points") else 1
            digits = len(text.partition(".")[2].rstrip("%kMBT")) if "." in text else 0
            exact = {"tokens": 1e-3 * value, "share": 1e-3 * scale * value}.get(kind, 0)
            slack = max(0.5000001 * 10**-digits, exact)
            slack = {"<0.0001": 1e-4, "<0.1%": 0.1}.get(text, slack)
            assert readable(text) == pytest.approx(scale * value, abs=slack), (attrs, text)


def test_the_headline_table_has_each_number_in_its_column(
    whole_sweep: Path, tmp_path: Path
) -> None:
    html = write_report(whole_sweep, tmp_path).html.read_text(encoding="utf-8")
    table = html[html.index('<table class="headline">') :].partition("</table>")[0]
    columns = [
        "general_share",
        "tokens",
        "exam_accuracy",
        "exam_accuracy_replayed",
        "exam_accuracy_unreplayed",
        "change.exam.change",
        "domain_f1",
        "change.domain_f1.change",
        "general_bpb",
        "retention_bpb",
        "domain_bpb",
    ]
    rows = table.partition("<tbody>")[2].split("</tr>")[:-1]
    assert len(rows) == 1 + len(ARMS)
    for i, row in enumerate(rows[1:]):
        cells = row.split("<td")[1:-1]
        first = [re.findall(r'data-path="([^"]*)"', cell)[0] for cell in cells]
        assert first == [f"arms.{i}.{column}" for column in columns]
        f1 = re.findall(r'data-path="([^"]*)"', cells[columns.index("domain_f1")])
        assert f1[-2:] == [f"arms.{i}.domain_precision", f"arms.{i}.domain_recall"]


def test_chart_marks_lie_where_the_report_says(
    whole_sweep: Path, whole_report: Tree, tmp_path: Path
) -> None:
    page = Page(write_report(whole_sweep, tmp_path).html.read_text(encoding="utf-8"))
    marks = [attrs for _, attrs, _ in page.elements if "data-x-path" in attrs]
    assert len(marks) > 30
    for attrs in marks:
        for axis in ("x", "y"):
            assert float(attrs[f"data-{axis}"]) == at_path(whole_report, attrs[f"data-{axis}-path"])


def test_the_page_asks_nothing_of_the_network(whole_sweep: Path, tmp_path: Path) -> None:
    html = write_report(whole_sweep, tmp_path).html.read_text(encoding="utf-8")
    for sign in ("http", "src=", "@import", "url(", "<script", "<iframe"):
        assert sign not in html
    assert len(html) < 5_000_000
    links = [a["href"] for _, a, _ in Page(html).elements if "href" in a]
    assert links == ["data:,"]


def test_every_chart_is_labelled(whole_sweep: Path, tmp_path: Path) -> None:
    page = Page(write_report(whole_sweep, tmp_path).html.read_text(encoding="utf-8"))
    charts = [(attrs, "".join(text)) for tag, attrs, text in page.elements if tag == "svg"]
    assert len(charts) == 1 + 3 + 3 + 3 + 2 * len(ARMS)
    ids = [attrs["id"] for _, attrs, _ in page.elements if "id" in attrs]
    assert len(ids) == len(set(ids))
    for attrs, _ in charts:
        assert attrs["role"] == "img"
        assert set(attrs["aria-labelledby"].split()) <= set(ids)
    for unit in ("exam accuracy (%)", "domain F1 (weighted)", "nats per token", "tokens trained"):
        assert any(unit in text for _, text in charts)


HOSTILE = [
    "<script>alert(1)</script>",
    "\"'><img onerror=alert(1)>&amp;",
    "{{ 7 * 7 }}{% raw %}",
    "</svg></style></title>",
    "\u202egnirts\u202c \x00\x1b[31m",
    "x" * 10_000,
    "a|b `c` [d](e:f) **g**\n# h",
]


def test_hostile_names_stay_text(tmp_path: Path) -> None:
    write_sweep(tmp_path, n=40)
    sweep = json.loads((tmp_path / "sweep.json").read_text())
    for arm, name in zip(sweep["arms"], HOSTILE, strict=False):
        arm["name"] = name
        arm["general_share"] = 0.25  # equal shares: charts then label arms by name
        write_run(tmp_path / arm["run"], arm["general_share"], arm["tokens"], base=name)
    sweep |= {"name": HOSTILE[0] + HOSTILE[6], "note": HOSTILE[0] + HOSTILE[4]}
    sweep["arms"][1]["failed"] = HOSTILE[1]
    save_sweep(tmp_path, sweep)
    for name in ("base", "general_0"):
        path = tmp_path / "evals" / name / "exam.jsonl"
        rows = read_lines(path)
        for row in rows:
            row["subject"], row["category"] = HOSTILE[row["index"] % 7], HOSTILE[0]
        write_lines(path, rows)
    metrics = tmp_path / "arms" / "general_0" / "metrics.jsonl"
    metrics.write_text(metrics.read_text().replace('"tickets"', json.dumps(HOSTILE[3])))
    receipt = tmp_path / "arms" / "general_0" / "receipt.json"
    receipt.write_text(receipt.read_text().replace('"tickets"', json.dumps(HOSTILE[3])))
    report = load(tmp_path)
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    page = Page(html)
    tags = Counter(tag for tag, _, _ in page.elements)
    assert not set(tags) & {"script", "img", "iframe", "object", "embed"}
    assert tags["style"] == tags["title"] - tags["svg"] == 1
    assert not any(key.startswith("on") for _, attrs, _ in page.elements for key in attrs)
    assert "49" not in "".join("".join(t) for tag, _, t in page.elements if tag == "bdi")
    assert "{{ 7 * 7 }}" in html
    drawn = "".join("".join(text) for tag, _, text in page.elements if tag == "text")
    assert all(name[:20] in drawn for name in (HOSTILE[0], HOSTILE[2], HOSTILE[3]))
    markdown = (tmp_path / "report.md").read_text(encoding="utf-8")
    for text in (html, markdown, headline_table(report)):
        assert not any(sign in text for sign in "\u202e\x00\x1b")
        assert "x" * 100 not in re.sub(r'title="x+…?"', "", text)
    assert "<" not in markdown.replace("<0.0001", "")
    assert len(max(headline_table(report).splitlines(), key=len)) < 170
    assert report["arms"][5]["name"] == HOSTILE[5]


def test_text_contrast_is_enough_in_both_themes() -> None:
    css = (ROOT / "alloy" / "reports" / "writing" / "page.css").read_text(encoding="utf-8")
    themes = [dict(re.findall(r"--([\w-]+): (#\w{6})", part)) for part in css.split("@media")[:2]]
    assert all(len(theme) > 15 for theme in themes)
    for theme in themes:
        for text in ("ink", "soft"):
            for paper in ("paper", "band", "warn"):
                assert contrast(theme[text], theme[paper]) >= 4.5, (text, paper)
        for badge in ("good", "bad", "open"):
            assert contrast(theme[f"{badge}-ink"], theme[badge]) >= 4.5
        for i in range(7):
            assert contrast(theme[f"c{i}"], theme["paper"]) >= 3


def contrast(one: str, other: str) -> float:
    """WCAG 2 contrast of two #rrggbb colours."""
    lights = []
    for colour in (one, other):
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        lights.append(0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2])
    return (max(lights) + 0.05) / (min(lights) + 0.05)


# --- text, Markdown, axes, labels ------------------------------------------------------------


def test_the_terminal_table_has_a_row_for_each_model(whole_report: Tree) -> None:
    lines = headline_table(whole_report).splitlines()
    assert [line.split()[0] for line in lines[2:9]] == ["base", *(arm[0] for arm in ARMS)]
    row = lines[6].split()
    arm = whole_report["arms"][3]
    assert row[1:4] == ["50%", "600k", f"{100 * arm['exam_accuracy']:.1f}%"]
    assert row[-1] == "kept"
    assert all(ord(c) < 128 for c in "".join(lines))


def test_markdown_tables_are_even(whole_sweep: Path, tmp_path: Path) -> None:
    text = write_report(whole_sweep, tmp_path).markdown.read_text(encoding="utf-8")
    tables = re.findall(r"(?:^\|.*\n)+", text, flags=re.MULTILINE)
    assert len(tables) == 5
    for table in tables:
        assert len({len(re.findall(r"(?<!\\)\|", row)) for row in table.splitlines()}) == 1
    assert escape_markdown("a|b") == "a\\|b"


@pytest.mark.parametrize(
    ("value", "kind", "text"),
    [
        (None, "f1", "–"),
        (0.8514, "percent", "85.1%"),
        (0.005, "share", "0.5%"),
        (-0.0312, "points", "−3.1"),
        (-0.0001, "points", "0.0"),
        (0.00002, "p", "<0.0001"),
        (1_500_000, "tokens", "1.5M"),
        (7.45e-5, "lr", "7.45e-5"),
    ],
)
def test_numbers_are_written_one_way(value: float | None, kind: str, text: str) -> None:
    assert number(value, kind) == text


def test_columns_of_text_are_aligned() -> None:
    rows = [["model", "n", "verdict"], ["base", "1,000", ""], ["a long name", "2", "kept"]]
    assert aligned(rows, left={0, 2}) == [
        "model            n  verdict",
        "base         1,000",
        "a long name      2  kept",
    ]
    assert aligned([["a", "b"], ["cc", "ddd"]], left=()) == [" a    b", "cc  ddd"]
    with pytest.raises(ValueError, match="zip"):
        aligned([["a", "b"], ["c"]], left={0})


def test_visible_text_is_one_line_without_controls() -> None:
    assert visible("a\nb\tc\u202ed\ud800") == "a b c\ufffdd\ufffd"
    assert visible("abcdef", 4) == "abc…"


def test_axes_hold_their_values_and_tell_ticks_apart() -> None:
    rng = random.Random(0)
    for _ in range(200):
        center, spread = rng.uniform(-5, 5), 10 ** rng.uniform(-4, 2)
        values = [center + spread * rng.random() for _ in range(rng.randint(1, 6))]
        axis = linear_axis("a", values, "bpb_change")
        assert axis.low < min(values) <= max(values) < axis.high
        ticks = [text for _, text in axis.ticks]
        assert 2 <= len(ticks) <= 9
        assert len(set(ticks)) == len(ticks)
    shares = share_axis("s", [0, 0.01, 0.011, 0.05, 0.25, 1.0])
    assert [text for _, text in shares.ticks] == ["0%", "1%", "5%", "25%", "100%"]
    assert 0 < shares.place(0.0, 0, 100) < shares.place(0.01, 0, 100) < shares.place(1, 0, 100)


def test_labels_of_a_crowd_do_not_overlap() -> None:
    frame = Box(left=0, top=0, right=400, bottom=300)
    labels = [beside_point(200 + 14 * i, 150 + 3 * i, "10%") for i in range(5)]
    marks = [Box(left=194 + 14 * i, top=144, right=206 + 14 * i, bottom=168) for i in range(5)]
    placed = place_labels(labels, marks, frame)
    boxes = [Box(left=x, top=y - 9.5, right=x + 24, bottom=y + 2.5) for x, y, _ in placed]
    assert len(boxes) == 5
    assert all(a.overlap(b) == 0 for i, a in enumerate(boxes) for b in boxes[:i])
    assert all(box.overlap(mark) < 1e-9 for box in boxes for mark in marks)
