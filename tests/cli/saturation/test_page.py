"""The page of ``saturation --html``, as text and in a real browser."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from comet_resilience.cli import main

from ...journal.senders import sent_to
from ...journal.test_saturation import REFUSED, line, lines_of
from ...servers import window

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
HOSTILE = '</title></script><script>alert("x")</script>&\x1b[31m\u202e'


class Seen(HTMLParser):
    """Which tags and which addresses a page has."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str | None] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note a tag."""
        self.tags.append(tag)
        self.addresses += [value for name, value in attrs if name in ("src", "href", "srcset")]


def data_of(page: str) -> Any:
    """Return what the script of a page draws."""
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    return json.loads(found[1])


def test_foreign_names_stay_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A model's name is no mark-up, moves no cursor, and the page asks nobody for anything."""
    path, page = tmp_path / "calls.jsonl", tmp_path / "page.html"
    data = [line(n, model=HOSTILE, route=HOSTILE, in_flight=n, **REFUSED) for n in range(1, 9)]
    path.write_bytes(b"".join([*data, line(model="{{data}}")]))
    assert main(["saturation", str(path), "--html", str(page)]) == 0
    text, seen = page.read_text(encoding="utf-8"), Seen()
    seen.feed(text)
    assert seen.tags.count("script") == 2  # the data, and the one that draws them
    assert seen.addresses == []
    assert not re.search(r"url\(|@import|https?://(?!www\.w3\.org/2000/svg)", text)
    assert data_of(text)["series"][0]["model"].startswith("</title></script><script>alert(")
    assert '<td class="word">{{data}}</td>' in text
    for shown in (text, capsys.readouterr().out):
        assert not {"\x1b", "\u202e"} & set(shown)


def test_the_page(journal: Path, tmp_path: Path) -> None:
    """The answer in words, a row of figures for each series, and what the charts are drawn from."""
    page, seen = tmp_path / "page.html", Seen()
    main(["saturation", str(journal), "--html", str(page)])
    text = page.read_text(encoding="utf-8")
    seen.feed(text)
    assert "&quot;large&quot; saturates first" in text
    assert seen.tags.count("tr") == 3
    assert seen.tags.count("th") * 2 == seen.tags.count("td")
    assert seen.tags.count("noscript") == 1
    data = data_of(text)
    assert [series["model"] for series in data["series"]] == ["large", "small"]
    assert data["total"] == 2
    assert data["start"] <= data["series"][0]["first"]["time"] <= data["end"]
    for series in data["series"]:
        assert sum(slot["attempts"] for slot in series["slots"]) == series["attempts"]
    assert not re.search(r"\{\{\w+\}\}", text)


def drawn(page: Path, profile: Path) -> str:
    """Return what a browser makes of a page."""
    ran = subprocess.run([  # noqa: S603 - a browser of ours
        str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic",
        "--no-first-run", "--disable-background-networking", "--disable-component-update",
        "--disable-sync", f"--user-data-dir={profile}", "--dump-dom", page.as_uri(),
    ], capture_output=True, text=True, timeout=100, check=True)  # fmt: skip
    return ran.stdout


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium")
def test_in_a_browser(journal: Path, tmp_path: Path) -> None:
    """The page opens offline, its policy lets its script run, and it draws every chart."""
    page = tmp_path / "page.html"
    main(["saturation", str(journal), "--html", str(page)])
    shown = drawn(page, tmp_path / "profile")
    assert "<output" in shown  # made at the end of the script
    assert shown.count("<svg") == 3
    assert shown.count("<rect") > 20
    assert len(re.findall(r"first 429: \d", shown)) == 2
    assert "holds 12" in shown


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium")
def test_a_rate_in_a_browser(tmp_path: Path) -> None:
    """The chart names the rate, and no number in flight; the table has what a minute brings."""
    path, page = tmp_path / "calls.jsonl", tmp_path / "page.html"
    told = {"prompt_tokens": 700, "completion_tokens": 300}
    path.write_bytes(b"".join(lines_of(sent_to(window(10, 10.0, 10 / 3), 1, pause=0.5), **told)))
    main(["saturation", str(path), "--html", str(page)])
    shown = drawn(page, tmp_path / "profile")
    assert "a rate: some 10 requests in 10 s" in shown
    assert 'class="level"' not in shown
    assert '<td class="figure">10/10s</td>' in shown
    assert re.search(r'<td class="figure">\d\d</td><td class="figure">\d\d,\d{3}</td></tr>', shown)


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium")
def test_foreign_names_in_a_browser(tmp_path: Path) -> None:
    """A name that would be mark-up is drawn as text, wherever it stands."""
    path, page = tmp_path / "calls.jsonl", tmp_path / "page.html"
    name = '</script><script>document.title="forged"</script><img src=x>'
    path.write_bytes(b"".join(line(n, model=name, route=name, **REFUSED) for n in range(9)))
    main(["saturation", str(path), "--html", str(page)])
    shown = drawn(page, tmp_path / "profile")
    assert shown.count("<svg") == 2
    assert "<title>Which route and model saturates first?</title>" in shown
    assert not {"img"} & set(re.findall(r"<(\w+)", shown))
