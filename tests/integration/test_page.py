"""The page at / in a real browser, on a real gateway that asks nobody who he is."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.browser import Visit, aside, browser
from tests.fakes.running_up import Up, content_of
from tests.integration.test_slave import url_of
from zerostor.clock import SystemClock
from zerostor.core.events import Event, EventKind, Severity
from zerostor.event_book import SqliteEventBook
from zerostor.stores.folder_marker import initialise

SIZE_MAX = 100_000
"""Bytes of the page and all its parts, without compression."""
HOSTILE = "<img src=x onerror=document.title='owned'>\u202etxt.exe"
HOSTS = ("nas<b>bold</b>", "attic")
DROP = """(files) => {
  const carried = new DataTransfer();
  for (const [name, text] of files) carried.items.add(new File([text], name));
  for (const kind of ["dragenter", "dragover", "drop"]) {
    document.body.dispatchEvent(new DragEvent(kind, { dataTransfer: carried, bubbles: true,
      cancelable: true }));
  }
}"""
CONTRAST = """() => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgba = (colour) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    const [red, green, blue, alpha] = canvas.getImageData(0, 0, 1, 1).data;
    return [red, green, blue, alpha / 255];
  };
  const light = (colour) => {
    const [red, green, blue] = colour.map((part) => {
      const share = part / 255;
      return share <= 0.03928 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  };
  const behind = (node) => {
    for (let at = node; at; at = at.parentElement) {
      const colour = rgba(getComputedStyle(at).backgroundColor);
      if (colour[3] > 0.99) return colour;
    }
    return [255, 255, 255, 1];
  };
  const poor = [];
  let seen = 0;
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const node = texts.currentNode.parentElement;
    if (!texts.currentNode.data.trim() || !node.checkVisibility()) continue;
    if (node.closest(".unseen, noscript")) continue;
    seen += 1;
    const [one, other] = [light(rgba(getComputedStyle(node).color)), light(behind(node))];
    const ratio = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
    if (ratio < 4.5) poor.push([texts.currentNode.data.trim().slice(0, 40), node.className, ratio]);
  }
  return [seen, poor];
}"""


def settings(folder: Path) -> str:
    """Twenty stores on two hosts with names that are no fun. Nothing is repaired unasked."""
    lines = ["[keeper]", "scrub = 0"]
    for number in range(20):
        name = f"s{number:02d}"
        lines += ["[[store]]", f'name = "{name}"', f'url = "dir://{folder}/stores/{name}"',
                  f"labels = {{ host = {json.dumps(HOSTS[number % 2])} }}"]
    return "\n".join(lines) + "\n"


@pytest.fixture(scope="module")
def running() -> Iterator[Any]:
    with browser() as found:
        yield found


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory, running: Any) -> Iterator[Up]:
    folder = tmp_path_factory.mktemp("page") / "zerostor"
    (folder / "stores").mkdir(parents=True)
    for number in range(20):
        initialise(str(folder / "stores" / f"s{number:02d}"), f"s{number:02d}")
    with Up(folder, settings(folder)) as found:
        yield found


def url(up: Up) -> str:
    return f"http://127.0.0.1:{up.port}"


def check_grid(visit: Visit, states: dict[str, int]) -> None:
    """Wait until the grid of shards has so many of each state."""
    visit.until("""(wanted) => Object.entries(wanted).every(([state, count]) =>
      document.querySelectorAll(`.shards .${state}`).length === count)""", states)


def told(up: Up, events: Sequence[Event]) -> None:
    """Put events into the book of a running zerostor, as those of other hosts get there."""
    async def tell() -> None:
        book = SqliteEventBook(up.folder / "events.db", SystemClock())
        await book.adopt(events)
        await book.close()

    aside(asyncio.run, tell())


def event(number: int, severity: Severity = Severity.WARNING, text: str = HOSTILE) -> Event:
    return Event(severity=severity, kind=EventKind.NODE_TROUBLE, subject=f"node{number}",
                 text=f"{number} {text}", id=number, at_ms=1_800_000_000_000 + number,
                 origin="attic")


def test_a_file_comes_in_by_the_chooser_and_by_dropping_it(running: Any, up: Up) -> None:
    options = {"permissions": ["clipboard-read", "clipboard-write"]}
    with Visit(running, url(up), **options) as visit:
        visit.see("#drop")
        visit.choose((f"{HOSTILE}.txt", b"by the chooser"), ("big.bin", content_of(3_000_000)))
        visit.run(DROP, [["dropped.txt", "by dropping"]])
        visit.see("#uploads .link >> nth=2")
        assert visit.page.locator("#uploads img").count() == 0, "a name is text"
        visit.press("#uploads li:has-text('dropped.txt') button:has-text('Copy link')")
        visit.see("button", "Copied")
        copied = visit.run("navigator.clipboard.readText()")
        assert up.get(copied[len(url(up)):]).body == b"by dropping"
        assert visit.run("document.getElementById('say').textContent") == "Link copied."
        visit.page.reload()
        visit.press("#recent summary")
        visit.see("#recent li", HOSTILE[:10])
        assert visit.page.title() == "zerostor"


def test_progress_is_shown_and_an_upload_can_be_cancelled(
        running: Any, up: Up, tmp_path: Path) -> None:
    slow = tmp_path / "slow.bin"
    slow.write_bytes(content_of(6_000_000))
    with Visit(running, url(up)) as visit:
        visit.see("#drop")
        network = visit.context.new_cdp_session(visit.page)
        network.send("Network.enable")
        network.send("Network.emulateNetworkConditions", {
            "offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": 400_000})
        visit.page.set_input_files("#files", str(slow))
        visit.until("""() => Number(document.querySelector("#uploads [role=progressbar]")
          ?.getAttribute("aria-valuenow")) > 0""")
        visit.see("#uploads .soft", "/s")
        visit.press("#uploads button", "Cancel")
        visit.see("#uploads .failed", "Cancelled.")
        visit.see("#uploads button", "Try again")


def test_a_damaged_shard_is_seen_and_stores_that_go_down(running: Any, up: Up) -> None:
    link = up.store(content_of(500_000), "png")
    shards, begin = aside(up.shards, link), aside(up.stripes, link).base
    with Visit(running, url(up), path=f"/#{link[1:57]}") as visit:
        visit.see(".verdict.healthy")
        check_grid(visit, {"present": 20})
        whole = bytearray(shards[3].read_bytes())
        whole[begin + 100] ^= 1
        shards[3].write_bytes(whole)
        shards[5].unlink()
        visit.press(".acts button", "Look again")
        check_grid(visit, {"present": 19, "missing": 1})
        visit.press(".acts button", "Check every byte")
        check_grid(visit, {"present": 18, "missing": 1, "corrupt": 1})
        visit.see(".verdict.degraded", "18 of 20")
        visit.see(".plain", f"Shard 5 on {shards[5].parents[1].name}: missing")
        down = shards[7].parents[1].name
        with up.unplugged(down):
            visit.see(f".bay.bad:has-text('{down}')", "down")
            visit.see("#health", "1 down")
            visit.press(".acts button", "Look again")
            visit.see(".shards .unknown")
        visit.see("#health", "all stores up")


def test_names_of_stores_are_text(running: Any, up: Up) -> None:
    with Visit(running, url(up)) as visit:
        visit.see("#store-list h3", HOSTS[0])
        assert visit.page.locator("#store-list h3 b").count() == 0
        assert visit.page.locator(".bay").count() == 20
        marked = visit.run("""() => { try { document.body.innerHTML = "<b>x</b>"; return true; }
          catch { return false; } }""")
        assert not marked, "the policy keeps also mistakes of ours from making markup"
        visit.said.clear()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_can_be_read_by_everybody_and_fits_a_phone(running: Any, up: Up, scheme: str) -> None:
    link = up.store(content_of(1000), "bin")
    aside(up.shards, link)[0].unlink()
    with Visit(running, url(up), width=320, color_scheme=scheme, reduced_motion="reduce",
               path=f"/#{link[1:57]}") as visit:
        visit.see(".verdict.degraded")
        visit.see(".bay >> nth=19")
        visit.see("#counts dd")
        visit.choose(("a-name-without-any-place-to-break-it-" * 5 + ".txt", b"1"))
        visit.see("#uploads .link")
        visit.run("""() => import("/explorer/dom.js").then(({ notice }) =>
          notice("x", "No worker is running."))""")
        for theme in ("auto", {"light": "dark", "dark": "light"}[scheme]):
            visit.run("(theme) => { document.documentElement.dataset.theme = theme; }", theme)
            seen, poor = visit.run(CONTRAST)
            assert seen > 80 and poor == [], theme
        assert visit.run("document.documentElement.scrollWidth") == 320
        assert visit.run("""[...document.querySelectorAll("button, a[href], input")]
          .filter((one) => one.checkVisibility() && !one.textContent.trim() && !one.labels?.length
            && !one.ariaLabel).length""") == 0, "each has a name"


def test_the_choice_of_colours_stays(running: Any, up: Up) -> None:
    colour = "getComputedStyle(document.body).backgroundColor"
    with Visit(running, url(up), color_scheme="light") as visit:
        light = visit.run(colour)
        for _ in range(2):
            visit.press("#theme")
        dark = visit.run(colour)
        assert dark != light
        visit.page.reload()
        assert visit.run(colour) == dark
        assert visit.see("#theme").get_attribute("aria-label") == "Colours: dark"


def test_all_by_keyboard(running: Any, up: Up) -> None:
    link = up.store(content_of(2000), "bin")
    with Visit(running, url(up), reduced_motion="reduce") as visit:
        visit.see(".bay")
        keys = visit.page.keyboard
        visit.tab_to(".skip")
        keys.press("Enter")
        assert visit.run("document.activeElement.id") == "main"
        visit.tab_to("#files")
        label = "getComputedStyle(document.querySelector('#drop label')).outlineStyle"
        assert visit.run(label) == "solid", "who is on it sees that"
        with visit.page.expect_file_chooser() as chooser:
            keys.press("Space")
        chooser.value.set_files([{"name": "k.txt", "mimeType": "", "buffer": b"keys"}])
        visit.see("#uploads .link")
        visit.tab_to("#hash")
        keys.type(link)
        keys.press("Enter")
        visit.see(".verdict.healthy")
        visit.tab_to(".acts button:nth-of-type(2)")
        keys.press("Enter")
        visit.see(".verdict.healthy", "every byte")
        assert visit.run("document.activeElement.textContent") == "Check every byte", "focus stays"


def test_it_is_small_and_soon_there(
        running: Any, up: Up, capsys: pytest.CaptureFixture[str]) -> None:
    with Visit(running, "about:blank", path="") as visit:
        visit.url = url(up)
        answers: list[Any] = []
        visit.page.on("response", lambda answer: answers.append(answer))
        visit.page.goto(url(up))
        visit.see("#drop")
        entry = visit.run("performance.getEntriesByType('navigation')[0].domContentLoadedEventEnd")
        parts = [answer for answer in answers if "/api/" not in answer.url
                 and answer.url.rpartition("/")[2] not in ("readyz", "healthz")]
        sent = sum(len(answer.body()) for answer in parts)
        assert len(parts) > 5
        assert sent < SIZE_MAX
        with capsys.disabled():
            print(f"\nthe page: {sent / 1000:.0f} KB in {len(parts)} parts, interactive after"
                  f" {entry:.0f} ms")
        visit.page.reload()
        visit.see("#drop")


def test_ten_thousand_files_are_few_rows(running: Any, up: Up) -> None:
    with Visit(running, url(up)) as visit:
        visit.see("#drop")
        visit.page.route("**/api/upload*", lambda route: None)  # none of them is ever answered
        visit.run("""async () => {
          const { take } = await import("/explorer/uploads.js");
          take(Array.from({ length: 10000 }, (_, number) => new File(["x"], `${number}.txt`)));
        }""")  # a DataTransfer of so many takes seconds to make
        visit.see("#uploads-line", "9,998 files waiting")
        assert visit.page.locator("#uploads li").count() < 50
        visit.press("#cancel-all")
        visit.gone("#cancel-all")
        assert visit.page.locator("#uploads li").count() == 2


def test_a_thousand_events_flow_and_few_are_drawn(running: Any, up: Up) -> None:
    with Visit(running, url(up)) as visit:
        visit.see("#live", "live")
        told(up, [event(1)])
        visit.see("#event-list li", f"1 {HOSTILE[:10]}")
        told(up, [event(2, Severity.FAILURE)])
        visit.see("#event-list .failure", "2 <img")
        told(up, [event(number) for number in range(10, 1211)])
        visit.see("#events-line", "The newest 100 of 1,000")
        visit.see("#event-list li:first-child", "1210 <img")
        assert visit.page.locator("#event-list li").count() == 100
        told(up, [event(3000, Severity.FAILURE, "the last one")])
        visit.press("#severity span", "Failures")
        visit.gone("#event-list .warning")
        visit.see("#event-list .failure", "the last one")
        assert visit.page.locator("#event-list img").count() == 0
        visit.see("#charts", "Coming in")


def test_what_is_said_while_the_gateway_is_away_is_seen(running: Any, up: Up) -> None:
    with Visit(running, url(up)) as visit:
        visit.see("#live", "live")
        up.kill("gateway")
        told(up, [event(4000, text="while nobody listened")])
        up.ready()
        visit.see("#event-list li", "while nobody listened")
        visit.see("#live", "live")


def test_without_a_stream_it_asks_again_and_again(running: Any, up: Up) -> None:
    with Visit(running, "about:blank", path="") as visit:
        visit.url = url(up)
        visit.page.route("**/api/events*", lambda route: route.fulfill(status=404, body="{}"))
        visit.page.goto(url(up))
        visit.see("#live", "asking")
        visit.see(".bay >> nth=19")
        visit.page.route("**/api/stores", lambda route: route.abort())
        visit.page.route("**/api/jobs", lambda route: route.abort())
        visit.see("#notice", "does not answer")
        visit.page.unroute("**/api/stores")
        visit.page.unroute("**/api/jobs")
        visit.gone("#notice")


def test_a_file_is_removed_and_brought_back(running: Any, up: Up) -> None:
    link = up.store(content_of(3000), "txt")
    with Visit(running, url(up), path=f"/#{link[1:57]}") as visit:
        visit.press(".acts button", "Remove…")
        visit.see("dialog", "Remove this file?")
        visit.press("dialog button", "Keep it")
        visit.press(".acts button", "Remove…")
        visit.press("dialog .danger")
        visit.see(".verdict.degraded", "removed")
        assert up.get(link).status == 410
        visit.see("#found .soft", "Removed since")
        visit.press(".acts button", "Bring it back")
        visit.see(".verdict.healthy")
        visit.press(".acts button", "Quarantine")
        visit.see("#found .soft", "Quarantined since")
        assert up.get(link).status == 410
        visit.press(".acts button", "Release it")
        visit.see(".verdict.healthy")
        assert up.get(link).status == 200


def test_a_slave_shows_that_it_only_reads(running: Any, up: Up, tmp_path: Path) -> None:
    link = up.store(content_of(2000))
    follows = f'[metadata]\nrole = "slave"\nmaster = "{url_of(up)}"\n'
    with Up(tmp_path / "slave", follows + settings(up.folder)) as slave:
        slave.until(lambda: slave.get(f"/api/exists{link}").status == 200, "it has followed")
        with Visit(running, url(slave), path=f"/#{link[1:57]}") as visit:
            visit.see("#role", "only reads")
            visit.gone("#drop")
            visit.see(".verdict.healthy")
            visit.see(".bay >> nth=19")
            visit.run(DROP, [["no.txt", "not here"]])
            visit.see("#notice", "Nothing was uploaded")


def test_a_shard_is_made_again_while_one_looks_on(running: Any, up: Up) -> None:
    link = up.store(content_of(4_000_000))
    with Visit(running, url(up), path=f"/#{link[1:57]}") as visit:
        check_grid(visit, {"present": 20})
        lost = aside(up.shards, link)[2]
        lost.unlink()
        visit.press(".acts button", "Look again")
        check_grid(visit, {"missing": 1})
        visit.press(".acts button", "Repair")
        check_grid(visit, {"present": 20})
        visit.see(".verdict.healthy")
        assert lost.exists()
        visit.see("#care-list", "Repair")


NODES = """async (name) => {
  const { showNodes, showChunks, showStreams } = await import("/explorer/nodes.js");
  const nodes = Array.from({ length: 400 }, (_, number) => ({ name: `${name}${number}`,
    owner: "anna", site: "shed", state: number ? "connected" : "away", size: 2e6, free: 1e6,
    chunks: 60, uptime: 90, years_left: 12, needs_format: false, last_event: null }));
  showNodes({ hub: { address: "127.0.0.1:7777" }, nodes });
  showStreams({ streams: [
    { name: "shed", size: 1e6, chunks: 60, waiting: 1, waiting_since: 1.8e9, last: 0 }] });
  const chunks = Array.from({ length: 300 }, (_, number) => ({ stream: "shed", number, size: 16328,
    local: true, missing: 1, copies: { [name]: "held", other: "placing", third: "spoiled" } }));
  showChunks({ chunks });
}"""


def test_nodes_and_chunks_are_drawn_and_bounded(running: Any, up: Up) -> None:
    with Visit(running, url(up), width=320) as visit:
        visit.see(".bay")
        visit.run(NODES, HOSTILE)
        visit.see("#chunk-list .held", HOSTILE[:8])
        visit.see("#chunk-list .placing", "other placing")
        visit.see("#chunk-list .wanted", "1 more wanted")
        visit.see("#node-list .bad", "away")
        assert visit.page.locator("#node-list li").count() == 200
        assert visit.page.locator("#chunk-list li").count() == 120
        assert visit.page.locator("#nodes img").count() == 0
        visit.see("#nodes-line", "399 of 400 nodes connected")
        assert visit.run("document.documentElement.scrollWidth") == 320
        seen, poor = visit.run(CONTRAST)
        assert seen > 500 and poor == []
