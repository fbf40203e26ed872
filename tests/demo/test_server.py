"""The server as a stranger meets it over HTTP: no path of the machine, no other host, no more than the limits."""

import io
import json
import os
import re
import secrets
import time

import httpx
import pytest
from PIL import Image

from adcopilot.prompts import INSPECT_QUESTION

from ..helpers.waiting import until
from ..inspect.conftest import part

gradio_client = pytest.importorskip("gradio_client", reason="needs gradio: the extra web")

pytestmark = pytest.mark.timeout(1200)


def png(image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def upload(client, data: bytes, name="a.png"):
    return client.post("/gradio_api/upload", files={"files": (name, data)})


def call(client, *values):
    """The `/inspect` endpoint as a program calls it; its last event and what came with it."""
    body = {"data": list(values), "fn_index": function(client), "session_hash": secrets.token_hex(6)}
    joined = client.post("/gradio_api/queue/join", json=body)
    if joined.status_code != 200:
        return joined.status_code, joined.text
    with client.stream("GET", "/gradio_api/queue/data", params={"session_hash": body["session_hash"]}) as stream:
        for line in stream.iter_lines():
            event = json.loads(line[6:]) if line.startswith("data: ") else {}
            if event.get("msg") in ("process_completed", "unexpected_error"):
                return event.get("success"), event.get("output") or event
    return None, "no end"


def function(client) -> int:
    config = client.get("/config").json()
    [found] = [one["id"] for one in config["dependencies"] if one["api_name"] == "inspect"]
    return found


def file(path) -> dict:
    return {"path": str(path), "meta": {"_type": "gradio.FileData"}}


def test_only_this_machine_by_default(stub_demo):
    import psutil

    connections = psutil.Process(stub_demo.process.pid).net_connections(kind="inet")
    listening = {connection.laddr.ip for connection in connections if connection.status == "LISTEN"}
    assert listening == {"127.0.0.1"}


def test_headers(stub_demo):
    with stub_demo.client() as client:
        page = client.get("/")
        assert page.status_code == 200
        assert "default-src 'self'" in page.headers["content-security-policy"]
        assert page.headers["x-content-type-options"] == "nosniff"
        assert client.get("/monitoring").status_code != 200
        assert "fonts.googleapis.com/css" not in page.text


@pytest.fixture
def secret(tmp_path):
    """A readable picture of this machine that nobody uploaded."""
    path = tmp_path / "secret.png"
    part(1).save(path)
    return path


def test_no_path_of_the_machine_is_served(stub_demo, secret):
    work = next(stub_demo.log.parent.glob("adcopilot-demo-*")) / "work"
    (work / "job.png").write_bytes(secret.read_bytes())
    with stub_demo.client() as client:
        good = upload(client, png(part(2))).json()[0]
        assert client.get(f"/gradio_api/file={good}").status_code == 200
        for path in (
            "/etc/passwd",
            secret,
            work / "job.png",
            f"{good}/../../../work/job.png",
            f"{os.path.dirname(good)}/../../../../../../etc/passwd",
            "../" * 20 + "etc/passwd",
            "%2e%2e/" * 20 + "etc/passwd",
            "..%2f" * 20 + "etc/passwd",
            "file:///etc/passwd",
            "plugin/demo/server.py",
            ".gradio",
            "http://127.0.0.1/x",
            "HTTPS://example.org/x",
            "/http://example.org/x",
        ):
            for place in ("gradio_api/file=", "file=", "gradio_api/file/", "static/", "assets/", "gradio_api/proxy="):
                answer = client.get(f"/{place}{path}")
                assert answer.status_code in (400, 403, 404, 405, 422), (place, path, answer.status_code)
                assert b"root:" not in answer.content


def test_no_path_of_the_machine_is_inspected(stub_demo, said, secret):
    """An address sent instead of an upload; gradio's own check and the store's each stop it."""
    with stub_demo.client() as client:
        good = upload(client, png(part(2))).json()[0]
        before = set(files_of(stub_demo))
        for bad in (secret, "/etc/passwd", f"{good}/../../../../secret.png", "http://127.0.0.1:9/x.png"):
            for images in ((file(bad), file(good)), (file(good), file(bad))):
                success, output = call(client, *images, "Is it?")
                assert success is False, (bad, output)
                assert "root:" not in str(output)
        for bad in ({"url": "data:image/png;base64,AAAA"}, {"path": "/etc/passwd"}, {"path": str(secret)}):
            success, output = call(client, bad, file(good), "Is it?")  # without the mark that gradio looks for
            assert success is False, (bad, output)
        assert said.requests == []
        assert set(files_of(stub_demo)) == before
        success, output = call(client, file(good), file(good), "Is it?")
        assert success is True, output


def files_of(demo):
    return [path for path in demo.log.parent.glob("adcopilot-demo-*/**/*") if path.is_file()]


def test_too_large_uploads_are_refused(stub_demo):
    with stub_demo.client() as client:
        answer = upload(client, bytes((1 << 20) + 1))
        assert answer.status_code == 413
        assert "maximum allowed size" in answer.text
        assert upload(client, bytes(1 << 20)).status_code == 200
        answer = client.post("/gradio_api/upload", files=[("files", (f"{k}.png", bytes(1 << 20))) for k in range(9)])
        assert (answer.status_code, answer.text) == (413, "That is too much at once. Please add fewer pictures.")

        def endless():
            yield b"x"

        assert client.post("/gradio_api/upload", content=endless()).status_code == 411


def test_answers_name_no_folder(stub_demo, said):
    with stub_demo.client() as client:
        good = file(upload(client, png(part(2))).json()[0])
        bad = {
            "hello.png": b"hello",
            "small.png": png(Image.new("RGB", (4, 4))),
            "large.png": png(Image.new("1", (2000, 1500))),
            "torn.png": png(part(3, size=(300, 200)))[:2000],
            "empty.png": b"",
        }
        wanted = ["not an image", "too small", "more than the 2 million", "truncated", "0 bytes"]
        for (name, data), words in zip(bad.items(), wanted, strict=True):
            image = file(upload(client, data, name).json()[0])
            success, output = call(client, good, image, "")
            assert success is False
            assert output["error"].startswith(f"{name}: ")
            assert words in output["error"]
            assert "/" not in output["error"].replace("copy or export", "")
        for values, words in (((None, good, ""), "good part is missing"), ((good, None, ""), "part to inspect")):
            success, output = call(client, *values)
            assert success is False
            assert words in output["error"]
        success, output = call(client, good, good, "x" * 2001)
        assert "2001 letters, expected at most 2000" in output["error"]
        assert said.requests == []


def test_a_lost_endpoint_is_words_and_the_log_has_the_rest(stub_demo, said):
    said.status = 401
    with stub_demo.client() as client:
        good = file(upload(client, png(part(2))).json()[0])
        success, output = call(client, good, good, "")
    assert success is False
    assert output["error"] == "The model's server does not answer just now. Please try again in a minute."
    assert re.search(r"endpoint: .*status 401", stub_demo.log.read_text())


def test_the_api_answers_as_inspect(local_demo, speaking_dir, tmp_path):
    """The page's own interface for programs, over HTTP, with a login, against `adcopilot inspect`."""
    from adcopilot.anomaly_map.comparing import MapSettings
    from adcopilot.inspect.model_inspector import ModelInspector

    from .conftest import NEW_TOKENS

    with pytest.raises(Exception, match=r"[Aa]uth|[Ll]ogin|401"):
        gradio_client.Client(local_demo.url, verbose=False, download_files=False)
    client = gradio_client.Client(local_demo.url, auth=("anna", "secret"), verbose=False, download_files=False)
    files = []
    for index, size in enumerate([(84, 56), (300, 200), (120, 90)]):
        files.append(str(tmp_path / f"{index}.png"))
        part(index, size=size, defect=index > 0).save(files[-1])
    inspector = ModelInspector(model=speaking_dir, device="cpu", max_new_tokens=NEW_TOKENS, map=MapSettings())
    for query in files[1:]:
        images = gradio_client.handle_file(files[0]), gradio_client.handle_file(query)
        found = client.predict(*images, "", api_name="/inspect")
        [wanted] = inspector.inspect_many([(files[0], query)])
        wanted = {"question": INSPECT_QUESTION, **wanted.to_dict()}
        assert found == {**wanted, "query": os.path.basename(query), "template": "0.png"}


def test_a_login_is_needed_for_everything(local_demo):
    with local_demo.client() as client:
        for path in ("/config", "/gradio_api/info", "/gradio_api/file=/etc/passwd", "/gradio_api/queue/status"):
            assert client.get(path).status_code in (401, 404), path
        assert upload(client, png(part(1))).status_code == 401
        body = {"data": [], "fn_index": 0, "session_hash": "x"}
        assert client.post("/gradio_api/queue/join", json=body).status_code == 401
        for password in ("wrong", "", "secret "):
            assert client.post("/login", data={"username": "anna", "password": password}).status_code in (400, 422)
        assert client.post("/login", data={"username": "anna", "password": "secret"}).status_code == 200
        assert client.get("/config").status_code == 200


def test_files_go_when_a_visitor_leaves(stub_demo, said):
    """Gradio's page keeps a connection open; when it ends, the visitor has left."""
    with stub_demo.client() as client:
        image = upload(client, png(part(7))).json()[0]
        body = {"fn_index": function(client), "session_hash": "leaving", "data": [file(image), file(image), "Is it?"]}
        with client.stream("GET", "/gradio_api/heartbeat/leaving") as heart:
            beats = heart.iter_lines()  # kept: the connection ends with it
            next(beats)
            client.post("/gradio_api/queue/join", json=body)
            with client.stream("GET", "/gradio_api/queue/data", params={"session_hash": "leaving"}) as stream:
                assert any("process_completed" in line for line in stream.iter_lines())
            assert os.path.exists(image)
        until(lambda: not os.path.exists(image), "the visitor's file to go")


def test_bodies_are_refused_unread_and_never_logged(stub_demo, local_demo):
    """A body of 500 MB, as far as its header says, of which the server takes what a socket holds."""
    import socket
    from urllib.parse import urlsplit

    def answer(demo, path, head):
        with socket.create_connection(("127.0.0.1", urlsplit(demo.url).port), timeout=300) as client:
            client.sendall(
                f"POST {path} HTTP/1.1\r\nHost: x\r\n{head}\r\n\r\n".encode() + b"8000\r\n" + b"{" * 0x8000 + b"\r\n"
            )
            return int(client.recv(1000).split()[1])

    huge, endless = f"Content-Length: {500 << 20}", "Transfer-Encoding: chunked"
    for path in ("/gradio_api/queue/join", "/gradio_api/cancel", "/gradio_api/run/x", "/gradio_api/stream/x", "/x"):
        assert answer(stub_demo, path, huge) == 413
        assert answer(stub_demo, path, endless) == 411
        assert answer(local_demo, path, huge) == answer(local_demo, path, endless) == 401
    assert answer(local_demo, "/login", huge) == 413
    assert answer(stub_demo, "/gradio_api/upload", huge) == 413
    assert answer(local_demo, "/gradio_api/upload", huge) == 401

    with stub_demo.client() as client:
        mark, inspect = secrets.token_hex(8), function(client)
        for body in (
            {"data": [mark], "fn_index": 0, "session_hash": mark},
            {"data": [mark, mark, mark], "fn_index": inspect, "session_hash": mark},
            {"data": [{"path": mark}, {"path": [mark]}, mark], "fn_index": inspect, "session_hash": mark},
            {"data": [{mark: mark}, {mark: mark}, {mark: mark}], "fn_index": inspect, "session_hash": mark},
            {"data": mark, "fn_index": mark},
            mark,
            [[mark]],
        ):
            for path in (
                "queue/join",
                "run/inspect",
                "call/inspect",
                "stream/x",
                "component_server",
                "cancel",
                "reset",
            ):
                assert client.post(f"/gradio_api/{path}", json=body).status_code in (200, 400, 404, 422, 500)
        # what waited in the queue was looked at, and what there was to be logged of it was
        with client.stream("GET", "/gradio_api/queue/data", params={"session_hash": mark}) as stream:
            assert sum("process_completed" in line for line in stream.iter_lines()) == 8
        assert mark not in stub_demo.log.read_text()
        success, output = call(client, None)  # and what gradio cannot use is words for the visitor
        assert success is False
        assert output["error"] == "Something went wrong on the server. Reload the page and try again."
        assert mark not in stub_demo.log.read_text()  # once the server has answered all of these


def test_wrong_passwords_are_slowed(local_demo):
    """Many at the same time, said to come from elsewhere, as a proxy on this machine would say it."""
    from concurrent.futures import ThreadPoolExecutor

    from adcopilot.demo.door.throttle import FREE, INTERVAL, LONGEST

    def log_in(password, address):
        data = {"username": "anna", "password": password}
        return client.post("/login", data=data, headers={"x-forwarded-for": address}).status_code

    # one client: to make each its own takes so long that they do not come at the same time
    with local_demo.client(limits=httpx.Limits(max_connections=40)) as client, ThreadPoolExecutor(40) as pool:
        start = time.monotonic()
        statuses = list(pool.map(log_in, ["wrong"] * 200, ["10.0.0.1"] * 200))
        assert set(statuses) == {400, 429}
        # the bound grows with the time, on a slow machine too
        assert statuses.count(400) <= FREE + (time.monotonic() - start + LONGEST) / INTERVAL
        assert log_in("secret", "10.0.0.2") == 200
