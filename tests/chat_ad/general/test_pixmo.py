"""PixMo-cap: images that only a web server has, with a server that misbehaves in every way."""

import contextlib
import http.server
import json
import threading
from collections import Counter

import pytest

from adcopilot.chat_ad.general.fetching import Fetcher, url_key

from .conftest import png, write_parquet


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers by the first part of the path."""

    def do_GET(self):
        seen = self.server.seen
        with self.server.lock:
            seen[self.path] += 1
            count = seen[self.path]
        kind = self.path.split("/")[1]
        if kind == "ok" or (kind == "busy" and count > 2):
            self._send(200, png(seed=len(self.path)))
        elif kind == "busy":
            self._send(429 if count == 1 else 503, b"later", **{"Retry-After": "0"})
        elif kind == "html":
            self._send(200, b"<html>gone</html>")
        elif kind == "half":
            self._send(200, png()[:200])
        elif kind == "large":
            self._send(200, b"\x89PNG" + b"0" * 300_000)
        elif kind == "slow":
            self.server.over.wait()
            self._send(200, png())
        elif kind == "moved":
            self._send(302, b"", Location=self.path.replace("moved", "ok"))
        elif kind == "circle":
            self._send(302, b"", Location=self.path)
        elif kind == "file":
            self._send(302, b"", Location="file:///etc/hosts")
        elif kind == "cut":
            self.close_connection = True
        else:
            self._send(404, b"")

    def _send(self, status, body, **headers):
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        with contextlib.suppress(OSError):  # the client may have gone
            self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    found = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found.seen, found.lock, found.over = Counter(), threading.Lock(), threading.Event()
    found.daemon_threads, found.block_on_close = True, False
    thread = threading.Thread(target=found.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    found.url = f"http://127.0.0.1:{found.server_port}"
    yield found
    found.over.set()
    found.shutdown()
    found.server_close()


def table(place, urls):
    root = place.media / "pixmo"
    rows = [{"image_url": url, "caption": f"A picture, {n}.", "transcripts": ["eh"]} for n, url in enumerate(urls)]
    write_parquet(root / "data/train-00000.parquet", rows)
    return root


FETCH = ("--download", "--private-hosts", "--workers", 4, "--timeout", 5, "--max-bytes", 200_000)


def test_dead_links_are_replaced_by_the_next_in_the_draw_and_listed(place, server, monkeypatch):
    monkeypatch.setattr("adcopilot.chat_ad.general.fetching.time.sleep", lambda _: None)
    bad = ["html", "half", "large", "slow", "circle", "file", "cut", "gone"]
    urls = [f"{server.url}/{kind}/{n}" for n, kind in enumerate(["ok", "busy", "moved", "ok", "ok", *bad])]
    urls += ["ftp://example.org/x.png", None, "not a url"]
    root = table(place, urls)
    assert place.run("pixmo-cap", root, "--amount", 5, *FETCH) == 0
    records = place.records("PixMo-cap")
    assert sorted(record["key"].split("/")[1] for record in records) == sorted(url_key(url)[:32] for url in urls[:5])
    for record in records:
        (image,) = record["images"]
        assert image.startswith("chat_ad/PixMo-cap/")
        assert (place.media / image).read_bytes().startswith(b"\x89PNG")
        assert record["messages"][0]["content"].startswith("<image>")
        assert record["messages"][1]["content"].startswith("A picture, ")
    reasons = Counter(reason for _, _, reason in place.dropped("PixMo-cap"))
    assert reasons["not a web address"] == 3
    assert reasons["image not reachable"] <= 8
    log = [json.loads(line) for line in (place.output / "PixMo-cap/fetched.jsonl").read_text().splitlines()]
    said = {line["url"].split("/")[3]: line["reason"] for line in log if not line["file"]}
    expected = {
        "html": "not a usable image",
        "half": "not a usable image",
        "large": "larger than 200000 bytes",
        "slow": "time-out",
        "circle": "TooManyRedirects",
        "file": "",
        "cut": "no connection",
        "gone": "HTTP 404",
    }
    for kind, reason in said.items():
        assert expected[kind] in reason
    assert not list(place.output.rglob("*.tmp"))


def test_a_second_run_asks_nothing_and_gives_the_same_bytes(place, server):
    urls = [f"{server.url}/{'ok' if n % 3 else 'gone'}/{n}" for n in range(12)]
    root = table(place, urls)
    assert place.run("pixmo-cap", root, "--amount", 4, *FETCH) == 0
    first = (place.output / "PixMo-cap.jsonl").read_bytes()
    asked = sum(server.seen.values())
    assert asked < 12  # not all of them: 4 are drawn
    assert place.run("pixmo-cap", root, "--amount", 4, *FETCH) == 0
    assert place.run("pixmo-cap", root, "--amount", 4) == 0  # without --download: what is there
    assert sum(server.seen.values()) == asked
    assert (place.output / "PixMo-cap.jsonl").read_bytes() == first


def test_without_download_and_without_images_it_says_so(place, server, capsys):
    root = table(place, [f"{server.url}/ok/1"])
    assert place.run("pixmo-cap", root) == 2
    assert "add --download" in capsys.readouterr().err
    assert not server.seen


def test_private_addresses_are_not_asked_unless_allowed(tmp_path, server):
    with Fetcher(folder=tmp_path, download=True) as fetcher:
        found = fetcher.get(f"{server.url}/ok/1")
    assert (found.file, found.reason) == ("", "127.0.0.1 is a private address")
    assert not server.seen
    with Fetcher(folder=tmp_path, download=True, private_hosts=True) as fetcher:
        assert not fetcher.get(f"{server.url}/ok/1").file  # known to have failed
    with Fetcher(folder=tmp_path, download=True, private_hosts=True, retry_failed=True) as fetcher:
        assert fetcher.get(f"{server.url}/ok/1").file


def test_busy_servers_are_asked_again_as_late_as_they_say(tmp_path, server, monkeypatch):
    waits = []
    monkeypatch.setattr("adcopilot.chat_ad.general.fetching.time.sleep", waits.append)
    with Fetcher(folder=tmp_path, download=True, private_hosts=True, timeout=10) as fetcher:
        assert fetcher.get(f"{server.url}/busy/1").file
        assert waits == [0.0, 0.0]  # Retry-After: 0
        assert fetcher.get(f"{server.url}/cut/1").reason.startswith("no connection")
    assert waits == [0.0, 0.0, 1.0, 2.0]
    assert server.seen["/cut/1"] == 3
    assert server.seen["/busy/1"] == 3
