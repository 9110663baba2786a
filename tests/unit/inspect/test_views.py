from __future__ import annotations

import io
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from rich.console import Console

from moodscale.inspect.page import render_page
from moodscale.inspect.report import DataReport, inspect
from moodscale.inspect.terminal import render
from moodscale.prepare.manifest import Manifest
from tiny_daic import talk
from tiny_manifests import own_voice, prepared, sessions

CANARY = "the seventh lighthouse"
SECTIONS = (
    "What is wrong, worst first", "How much there is", "Labels: PHQ-8", "Answers by item",
    "Recordings, turns and clips",
    "Modalities", "What an epoch of training would show", "Overlap", "What is approximate", "Quarantine",
    "Repair ledger",
)  # fmt: skip


class Page(HTMLParser):
    """What a browser would see: open tags, attributes, text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.said = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in ("meta",):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.said += data


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    people = sessions(24)
    for one in people:
        one.rows = [(start, stop, who, f"{CANARY} {start}") for start, stop, who, _ in talk(20.0)]
    people[1].score = 99
    people[2].items = [3] * 8
    people[3].audio = own_voice(0)
    return prepared(tmp_path_factory.mktemp("views") / "m", people, transcripts="as_is")


@pytest.fixture(scope="module")
def report(manifest: Manifest) -> DataReport:
    return inspect([manifest])


def on_terminal(view: object) -> str:
    console = Console(file=io.StringIO(), width=200)
    console.print(view)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_the_page_is_whole_and_asks_nobody_for_anything(report: DataReport) -> None:
    text = render_page(report)
    page = Page(text)
    assert page.open == []
    assert not {tag for tag, *_ in page.attributes} & {"script", "link", "img", "iframe", "object", "form"}
    assert [value for _, name, value in page.attributes if name in ("src", "href", "srcset", "action")] == []
    assert "url(" not in text
    assert "@import" not in text
    assert ("meta", "content", "default-src 'none'; style-src 'unsafe-inline'") in page.attributes
    for section in SECTIONS:
        assert section in page.said


def test_the_page_begins_with_the_findings_in_their_order(report: DataReport) -> None:
    said = Page(render_page(report)).said
    at = [said.index(one.text) for one in report.findings]
    assert at == sorted(at)
    assert at[-1] < said.index("How much there is")


def test_no_view_holds_words_though_the_manifest_does(manifest: Manifest, report: DataReport) -> None:
    assert CANARY in manifest.turns("train")["text"][0].as_py()
    for shown in (render_page(report), on_terminal(render(report)), json.dumps(report.to_json())):
        assert CANARY not in shown
        assert "lighthouse" not in shown


def test_hidden_counts_are_in_no_view(manifest: Manifest, report: DataReport) -> None:
    test = next(one for one in report.labels if one.group == "test")
    assert test.num_depressed is None
    row = re.search(
        r"<tr[^>]*><th>test</th>((?:<td>[^<]*</td>)+)</tr>\s*<tr[^>]*begins",
        render_page(report).split("Labels: PHQ-8")[1],
    )
    assert row is not None
    cells = re.findall(r"<td>([^<]*)</td>", row[1])
    assert cells[:4] == ["6", "–", "–", "–"]
    assert json.loads(json.dumps(report.to_json()))["labels"][3]["num_depressed"] is None
    assert next(one for one in inspect([manifest], min_cell=1).labels if one.group == "test").num_depressed == 3


def test_names_from_files_are_escaped(tmp_path: Path) -> None:
    manifest = prepared(tmp_path / "<b>m&m", sessions(8))
    assert "<b>m" not in render_page(inspect([manifest]))
    assert "&lt;b&gt;m&amp;m" in render_page(inspect([manifest]))


def test_the_terminal_tells_findings_and_tables(report: DataReport) -> None:
    shown = on_terminal(render(report, "/somewhere/inspect.html"))
    assert shown.index("Recordings of two people") < shown.index("people, interviews, hours")
    for wanted in ("class-balanced", "items_do_not_add_up", "quarantine", "speech share", "/somewhere/inspect.html"):
        assert wanted in shown


def test_what_looks_like_markup_in_a_name_is_shown_as_it_is(report: DataReport) -> None:
    odd = ("daic_woz", "[bold]5[/]", "[/x]", "row [red]")
    shown = on_terminal(render(replace(report, quarantine=(odd,))))
    assert "[bold]5[/]" in shown
    assert "row [red]" in shown


def test_without_the_test_labels_the_views_say_so(tmp_path: Path) -> None:
    report = inspect([prepared(tmp_path / "m", sessions(8))], test_labels=False)
    assert "test split's labels were not read" in Page(render_page(report)).said
    assert "test split's labels were not read" in on_terminal(render(report))
