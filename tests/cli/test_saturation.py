"""``saturation``, as a person uses it, and its page in a real browser."""

from __future__ import annotations

import gzip
import io
import json
import re
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import anyio
import openai
import pytest
import trio
import trio.testing

from comet_resilience import wrap
from comet_resilience.cli import main
from comet_resilience.testing import ConcurrencyCap, Gateway

from ..conftest import MESSAGES, httpx
from ..journal.test_saturation import REFUSED, START, line

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
HOSTILE = '</title></script><script>alert("x")</script>&\x1b[31m\u202e'


@pytest.fixture(scope="module")
def lines() -> list[bytes]:
    """The journal of 300 calls of two models at a gateway that takes 3 and 12 at once."""
    heard: list[bytes] = []

    def note(record: Any) -> None:
        at = datetime.fromtimestamp(START + anyio.current_time() % 1_000, UTC)  # virtual time
        heard.append(json.dumps(record | {"time": at.isoformat()}).encode() + b"\n")

    async def burst() -> None:
        caps = {"large": ConcurrencyCap(3), "small": ConcurrencyCap(12)}
        gateway = Gateway(capacity=caps, latency=0.05, seed=1)
        client = openai.AsyncOpenAI(
            base_url=gateway.base_url, api_key=gateway.api_key,
            http_client=httpx.AsyncClient(transport=gateway.transport()),
        )  # fmt: skip
        client._platform = "Unknown"
        client = wrap(client, journal=note, max_retries=50)

        async def ask(model: str, at: float) -> None:
            await anyio.sleep(at)
            await client.chat.completions.create(model=model, messages=MESSAGES)

        async with anyio.create_task_group() as tasks:
            for number in range(150):
                tasks.start_soon(ask, "large", number / 1_000)
                tasks.start_soon(ask, "small", 1 + number / 1_000)

    trio.run(burst, clock=trio.testing.MockClock(autojump_threshold=0))
    return heard


@pytest.fixture
def journal(tmp_path: Path, lines: list[bytes]) -> Path:
    """The same as a file."""
    path = tmp_path / "calls.jsonl"
    path.write_bytes(b"".join(lines))
    return path


def test_the_answer(journal: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The model with the smaller cap, named first, with the concurrency that holds up."""
    assert main(["saturation", str(journal)]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith('POST /chat/completions for "large" saturates first')
    rows = [row.split() for row in shown.splitlines() if re.match(r" \d ", row)]
    assert [row[1] for row in rows] == ["large", "small"]
    assert [row[-1] for row in rows] == ["3", "12"]
    assert all(len(row) <= 80 for row in shown.splitlines())


def test_as_json(journal: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """``--json`` prints everything as data."""
    assert main(["saturation", "--json", str(journal)]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert [series["model"] for series in shown["series"]] == ["large", "small"]
    assert shown["series"][0]["level"]["holds"] == 3
    assert shown["attempts"] == sum(series["attempts"] for series in shown["series"])
    assert "saturates first" in shown["answer"]


def test_several_files_of_any_sort(
    tmp_path: Path, journal: Path, lines: list[bytes], capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Plain, compressed and piped; what is damaged or no line at all is named and skipped."""
    packed, cut = tmp_path / "calls.jsonl.1", tmp_path / "cut.gz"
    packed.write_bytes(gzip.compress(b"".join(lines)))
    cut.write_bytes(packed.read_bytes()[:-500])
    long = b"x" * 300_000 + b"\n" + lines[0] + b"no line\n" + lines[0].rstrip()
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(long)))
    arguments = [str(journal), str(packed), "-", str(cut)]
    assert main(["saturation", "--json", *arguments]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["attempts"] > 2 * len(lines) + 2
    assert 2 <= json.loads(out)["malformed"] <= 3
    assert "cut.gz is damaged" in err


@pytest.mark.parametrize(
    ("text", "words", "status"),
    [
        (b"", "These journals contain no attempts", 1),
        (b"no\n", "1 malformed line skipped", 1),
        (line(), "Nothing saturated: none of 1 attempts", 0),
        (line(**REFUSED), "at no particular concurrency", 0),
    ],
)
def test_little_to_say(
    text: bytes, words: str, status: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An empty journal and one without refusals have an answer and a page too."""
    path, page = tmp_path / "calls.jsonl", tmp_path / "page.html"
    path.write_bytes(text)
    assert main(["saturation", str(path), "--html", str(page)]) == status
    assert words in " ".join(capsys.readouterr().out.split())
    assert page.read_text(encoding="utf-8").endswith("</html>\n")


def test_a_file_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    """It is named on standard error, with status 2."""
    assert main(["saturation", "/none/calls.jsonl"]) == 2
    assert "/none/calls.jsonl" in capsys.readouterr().err


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
    """What the script of a page draws."""
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
    assert seen.tags.count("noscript") == 1
    data = data_of(text)
    assert [series["model"] for series in data["series"]] == ["large", "small"]
    assert data["total"] == 2
    assert data["start"] <= data["series"][0]["first"]["time"] <= data["end"]
    for series in data["series"]:
        assert sum(slot["attempts"] for slot in series["slots"]) == series["attempts"]
    assert not re.search(r"\{\{\w+\}\}", text)


def drawn(page: Path, profile: Path) -> str:
    """What a browser makes of a page."""
    ran = subprocess.run([  # noqa: S603 - a browser of ours
        str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic",
        "--no-first-run", "--disable-background-networking", "--disable-component-update",
        "--disable-sync", f"--user-data-dir={profile}", "--dump-dom", page.as_uri(),
    ], capture_output=True, text=True, timeout=50, check=True)  # fmt: skip
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


def test_as_a_module(journal: Path) -> None:
    """``python -m comet_resilience saturation`` is the same program."""
    ran = subprocess.run(  # noqa: S603 - this very program
        [sys.executable, "-m", "comet_resilience", "saturation", str(journal)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "saturates first" in ran.stdout
