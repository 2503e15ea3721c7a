"""The picture of the page in README, from a real run: `make picture`."""

from __future__ import annotations

import base64
import struct
import tempfile
import zlib
from pathlib import Path

from tests.fakes.browser import Visit, aside, browser
from tests.fakes.running_up import ROOT, Up, content_of
from zerostor.stores.folder_marker import initialise

PICTURE = ROOT / "docs" / "page.png"
WIDTH = 1100
HOSTS = ("cellar", "attic", "office", "shed", "barn")
PALETTE = """async (drawn) => {
  const picture = new Image();
  picture.src = `data:image/png;base64,${drawn}`;
  await picture.decode();
  const { width, height } = picture;
  const canvas = new OffscreenCanvas(width, height).getContext("2d");
  canvas.drawImage(picture, 0, 0);
  const { data } = canvas.getImageData(0, 0, width, height);
  const counts = new Map();
  const at = (place) => (data[place] << 16) | (data[place + 1] << 8) | data[place + 2];
  for (let place = 0; place < data.length; place += 4) {
    counts.set(at(place), (counts.get(at(place)) ?? 0) + 1);
  }
  // The commonest as they are, then what is far from all of these.
  const split = (colour) => [colour >> 16, (colour >> 8) & 255, colour & 255];
  const far = (one, other) => one.reduce((sum, part, which) => sum + (part - other[which]) ** 2, 0);
  const chosen = [];
  for (const gap of [600, 150, 30, 0]) {
    for (const [colour] of [...counts].sort((one, other) => other[1] - one[1])) {
      if (chosen.length === 256) break;
      const parts = split(colour);
      if (chosen.every((other) => far(parts, other) > gap)) chosen.push(parts);
    }
  }
  const nearest = new Map();
  for (const colour of counts.keys()) {
    const parts = split(colour);
    let best = 0;
    chosen.forEach((other, index) => {
      if (far(parts, other) < far(parts, chosen[best])) best = index;
    });
    nearest.set(colour, best);
  }
  let points = "";
  for (let place = 0; place < data.length; place += 4) {
    points += String.fromCharCode(nearest.get(at(place)));
  }
  return [width, height, chosen.flat(), btoa(points)];
}"""
FILES = ("holiday.mp4", "thesis.pdf")


def settings(folder: Path) -> str:
    """Twenty stores on five hosts."""
    lines = ["[keeper]\nscrub = 0\n"]  # it would mend what the picture is to show
    for number in range(20):
        host = HOSTS[number // 4]
        name = f"{host}-{number % 4 + 1}"
        store = folder / "stores" / name
        store.parent.mkdir(parents=True, exist_ok=True)
        initialise(str(store), name)
        lines.append(f'[[store]]\nname = "{name}"\nurl = "dir://{store}"\n'
                     f'labels = {{ host = "{host}" }}\n')
    return "".join(lines)


def small(visit: Visit, drawn: bytes) -> bytes:
    """The same as PNG with a palette: a third of the bytes."""
    width, height, colours, points = visit.run(PALETTE, base64.b64encode(drawn).decode())
    flat = base64.b64decode(points)
    lines = b"".join(b"\0" + flat[at : at + width] for at in range(0, len(flat), width))
    chunks = ((b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)),
              (b"PLTE", bytes(colours)), (b"IDAT", zlib.compress(lines, 9)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in chunks)


def main() -> None:
    """Store some files, lose a shard and a store, look at it."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made) / "zerostor"
        with Up(folder, settings(folder)) as up, browser() as running, Visit(
                running, f"http://127.0.0.1:{up.port}", width=WIDTH) as visit:
            visit.see("#live", "live")
            for number, name in enumerate(FILES):
                visit.choose((name, content_of(3_000_000, number)))
                visit.see(f"#uploads li:has-text('{name}') .link")
            link = visit.see("#uploads .link").get_attribute("href")
            shards = aside(up.shards, "/" + str(link).rpartition("/")[2])
            lost = folder / "stores" / "office-3"
            lost.rename(folder / "away")
            visit.see(".bay.bad", "down")
            next(shard for shard in shards if lost not in shard.parents).unlink()
            visit.press("#uploads button", "Check")
            visit.see(".shards .missing")
            for number in range(20):
                up.store(content_of(500_000, number))
                up.get(str(link).removeprefix(f"http://127.0.0.1:{up.port}"))
            visit.see("#event-list li", "down")
            # The path of a temporary folder is of no use to anybody.
            visit.run("document.querySelectorAll('.why').forEach((line) => line.remove())")
            PICTURE.parent.mkdir(exist_ok=True)
            bottom = visit.page.locator("#stores").bounding_box()
            drawn = visit.page.screenshot(full_page=True, clip={
                "x": 0, "y": 0, "width": WIDTH, "height": bottom["y"] + bottom["height"] + 16})
            (folder / "away").rename(lost)
            visit.page.goto("about:blank")
            PICTURE.write_bytes(small(visit, drawn))
    print(f"{PICTURE.relative_to(ROOT)}: {PICTURE.stat().st_size / 1000:.0f} KB")


if __name__ == "__main__":
    main()
