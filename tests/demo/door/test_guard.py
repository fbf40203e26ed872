"""What stands before gradio: no body is read before it is known to be wanted. As a raw ASGI client sends it."""

import asyncio

import pytest

from adcopilot.demo.door.bodies import FIELD_BYTES
from adcopilot.demo.door.guard import LOGIN_BYTES, LOGIN_CHECK, Guard
from adcopilot.demo.door.throttle import FREE, LONGEST, Throttle
from adcopilot.demo.limits import Limits

CHUNK = bytes(1 << 16)
LIMITS = Limits(unpacked_bytes=1 << 20, files=10)


class App:
    """Stands for gradio: reads all that it gets, as gradio does before it looks for a login."""

    def __init__(self, *, logged_in=True, status=200, fails=None):
        self.logged_in, self.status, self.fails = logged_in, status, fails
        self.got, self.asked, self.gone = 0, [], False

    async def __call__(self, scope, receive, send):
        if scope["path"] == LOGIN_CHECK:
            status = 200 if self.logged_in else 401
        else:
            self.asked.append((scope["path"], scope["query_string"]))
            more = True
            while more:
                message = await receive()
                self.gone = message["type"] == "http.disconnect"
                if self.gone:
                    raise RuntimeError("the client is gone")
                self.got += len(message.get("body", b""))
                more = message.get("more_body", False)
            if self.fails:
                raise self.fails
            status = self.status
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": b"answer"})


class Store:
    """With room for so many bytes."""

    room = 1 << 40

    def is_full(self, *, coming=0):
        return coming >= self.room


class Client:
    """Sends a body in chunks, as long as it is read."""

    def __init__(self, guard):
        self.guard = guard

    def post(self, path, *, body=(b"",), length=..., headers=(), method="POST", client=("1.2.3.4", 5), query=b""):
        body = list(body)
        headers = [*headers]
        if length is not None:
            size = sum(map(len, body)) if length is ... else length
            headers.append((b"content-length", str(size).encode()))
        scope = {
            "type": "http", "method": method, "path": path, "query_string": query, "headers": headers, "client": client
        }  # fmt: skip
        self.read, messages = 0, []

        async def receive():
            if self.read >= len(body):
                return {"type": "http.disconnect"}
            self.read += 1
            return {"type": "http.request", "body": body[self.read - 1], "more_body": self.read < len(body)}

        async def send(message):
            messages.append(message)

        asyncio.run(self.guard(scope, receive, send))
        assert [one["type"] for one in messages] == ["http.response.start", "http.response.body"]
        return messages[0]["status"], messages[1]["body"].decode(), dict(messages[0]["headers"])


def guarded(app, **options):
    return Client(Guard(app, store=Store(), limits=LIMITS, **options))


@pytest.mark.parametrize("path", ["/gradio_api/queue/join", "/gradio_api/cancel", "/gradio_api/upload", "/", "/x/y"])
@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "BREW"])
def test_login_comes_before_the_body(path, method):
    app = App(logged_in=False)
    client = guarded(app)
    assert client.post(path, body=[CHUNK] * 100, method=method)[0] == 401
    assert (client.read, app.asked) == (0, [])


@pytest.mark.parametrize(
    ("path", "most"),
    [
        ("/gradio_api/queue/join", LIMITS.request_bytes),
        ("/gradio_api/run/predict/", LIMITS.request_bytes),
        ("/gradio_api/upload", LIMITS.unpacked_bytes),
        ("/gradio_api/upload/", LIMITS.unpacked_bytes),
        ("/login", LOGIN_BYTES),
        ("/login/", LOGIN_BYTES),
    ],
)
def test_no_more_than_the_limit_is_read(path, most):
    exact = [bytes(1024)] * (most // 1024)
    app = App()
    client = guarded(app)
    assert client.post(path, body=exact)[0] == 200
    assert app.got == most
    # by its header, before anything is read
    app.got = 0
    status, words, headers = client.post(path, body=[CHUNK] * 1000)
    assert (status, words) == (413, "That is too much at once. Please add fewer pictures.")
    assert b"content-security-policy" in headers
    assert (client.read, app.got) == (0, 0)
    # by its bytes, where the header lies
    status, words, _ = client.post(path, body=[*exact, b"x", *[CHUNK] * 1000], length=10)
    assert (status, words) == (413, "That is too much at once. Please add fewer pictures.")
    assert client.read == len(exact) + 1
    assert app.got == most
    # and where there is none that says it
    for length in (None, "-1", "1_0", "٣", "9" * 5000, ""):
        app.got = 0
        assert client.post(path, body=[CHUNK] * 1000, length=length)[0] == 411
        assert (client.read, app.got) == (0, 0)
    twice = [(b"content-length", b"5")]
    assert client.post(path, body=[CHUNK], headers=twice, length=6)[0] == 411
    assert client.read == 0


def test_a_form_may_not_hide_what_is_no_file():
    """Gradio keeps the fields of a form in memory, files on the disk."""
    kind = [(b"content-type", b"multipart/form-data; boundary=xyz")]

    def form(disposition, size):
        head = f"--xyz\r\nContent-Disposition: form-data; {disposition}\r\n\r\n".encode()
        return [head, *[bytes(1000)] * (size // 1000), b"\r\n--xyz--\r\n"]

    app = App()
    client = guarded(app)
    assert (
        client.post("/gradio_api/upload", body=form('name="files"; filename="a.png"', 900_000), headers=kind)[0] == 200
    )
    app.got = 0
    assert client.post("/gradio_api/upload", body=form('name="files"', 900_000), headers=kind)[0] == 413
    assert app.got <= FIELD_BYTES + 1000
    assert app.gone
    # a form that cannot be read is gradio's to refuse
    assert client.post("/gradio_api/upload", body=[b"--xyz\r\n\x00\xff: ::\r\n"], headers=kind)[0] == 200
    assert (
        client.post("/gradio_api/upload", body=[b"x"], headers=[(b"content-type", b"multipart/form-data")])[0] == 200
    )


def test_room_is_for_all_uploads_under_way():
    app = App()
    guard = Guard(app, store=Store(), limits=LIMITS)
    guard.store.room = 150_000
    results, may_end = [], asyncio.Event()

    async def upload():
        async def receive():
            await may_end.wait()
            return {"type": "http.request", "body": bytes(100_000), "more_body": False}

        async def send(message):
            results.append(message.get("status"))

        scope = {"type": "http", "method": "POST", "path": "/gradio_api/upload", "query_string": b"upload_id=a"}
        await guard({**scope, "headers": [(b"content-length", b"100000")]}, receive, send)

    async def both():
        first, second = asyncio.create_task(upload()), asyncio.create_task(upload())
        await second
        may_end.set()
        await first
        await upload()  # the first has gone

    asyncio.run(both())
    assert results == [507, None, 200, None, 200, None]
    assert {query for _, query in app.asked} == {b""}  # gradio would remember its name


def test_no_websockets():
    sent = []

    async def main():
        async def send(message):
            sent.append(message)

        await Guard(App(), store=Store(), limits=LIMITS)({"type": "websocket", "path": "/"}, None, send)

    asyncio.run(main())
    assert sent == [{"type": "websocket.close", "code": 1008}]


def test_wrong_passwords_wait_and_are_refused_unread():
    now, waited = [0.0], []

    async def sleep(seconds):
        waited.append(seconds)
        now[0] += seconds

    app = App(status=400)
    client = guarded(app, throttle=Throttle(clock=lambda: now[0]), sleep=sleep)
    assert [client.post("/login", body=[b"wrong"])[0] for _ in range(FREE + 2)] == [400] * (FREE + 2)
    assert waited == [2.0, 2.0]
    client.guard.sleep = lambda seconds: asyncio.sleep(0)  # all at the same time
    statuses = [client.post("/login", body=[b"wrong"])[0] for _ in range(20)]
    assert statuses.count(429) == 20 - LONGEST / 2
    assert client.read == 0
    status, words, headers = client.post("/login", body=[b"wrong"])
    assert (status, words) == (429, "Too many wrong passwords. Please wait a little.")
    assert int(headers[b"retry-after"]) in (1, 2)
    # another's right password is looked at at once, and his own after a while
    app.status = 200
    assert client.post("/login", body=[b"right"], client=("5.6.7.8", 1))[0] == 200
    now[0] += int(headers[b"retry-after"])
    assert client.post("/login", body=[b"right"])[0] == 200


def test_what_goes_wrong_is_written_down_without_the_request(capsys):
    app = App(fails=ValueError("SECRET words of the request"))
    status, words, _ = guarded(app).post("/gradio_api/queue/join", body=[b"SECRET"])
    assert (status, words) == (500, "Something went wrong here.")
    logged = capsys.readouterr().err
    assert "SECRET" not in logged
    assert "server: ValueError at test_guard.py:" in logged
    assert logged.count("\n") == 1
