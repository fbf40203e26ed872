"""The client against a real HTTP server: what passes is tried again, what does not is said, and the key is not."""

import asyncio
import threading
import time
from collections import Counter
from email.utils import formatdate

import pytest

from adcopilot.endpoint.address import Endpoint as Address
from adcopilot.endpoint.address import checked_address, key_of
from adcopilot.endpoint.client import Client, Declined, Patience, Refused
from adcopilot.errors import UserError

from ..evaluation.backends.endpoint import Endpoint, completion

QUICK = {"first_wait": 0.01, "longest_wait": 5.0, "attempts": 3, "timeout": 60.0}


def ask(url, times=1, *, key="", may_be_empty=True, events=None, **patience):
    """What came of some requests after one another: completions, or what was raised instead."""

    async def all_of_them():
        client = Client(
            endpoint=Address(url, key),
            patience=Patience(**{**QUICK, **patience}),
            events=Counter() if events is None else events,
            may_be_empty=may_be_empty,
        )
        try:
            found = []
            for number in range(times):
                try:
                    found.append(await client.send({"number": number}))
                except Refused as error:
                    found.append(error)
            return found
        finally:
            await client.close()

    return asyncio.run(all_of_them())


def says(*responses):
    """A server that answers with these, one after another, then well."""
    return Endpoint(lambda body, number: responses[number] if number < len(responses) else completion("well"))


@pytest.mark.parametrize(
    "trouble",
    [
        (500, {}, {"error": {"message": "cuda error"}}),
        (503, {}, b"<html>starting</html>"),
        (408, {}, b""),
        (200, {}, b"not json"),
        (200, {}, b'{"choices": [{"mess'),
        (200, {}, {"choices": []}),
        (200, {}, {"error": {"code": 503, "message": "busy"}}),
        completion("The ans", finish="error"),  # broken off by what stands behind a router, or by the server
        completion("", finish="abort"),
        None,
    ],
)
def test_what_passes_is_tried_again(trouble):
    with says(trouble, trouble) as endpoint:
        [answer] = ask(endpoint.url)
    assert (answer.text, len(endpoint.bodies)) == ("well", 3)


def test_an_empty_answer_is_one_where_the_caller_says_so():
    with says(completion(""), completion(" "), completion(None, refusal="No.")) as endpoint:
        [empty] = ask(endpoint.url)
        [refused] = ask(endpoint.url, may_be_empty=False)
    assert (empty.text, refused.text, refused.refusal, len(endpoint.bodies)) == ("", "", "No.", 3)


@pytest.mark.parametrize("written", ["seconds", "date"])
def test_retry_after_holds_every_request_back(written):
    """Also those that had not been refused themselves."""
    times, events = [], Counter()

    def respond(body, number):
        times.append(time.monotonic())
        # A date has whole seconds: two of them are one at least.
        after = "1" if written == "seconds" else formatdate(time.time() + 2, usegmt=True)
        return (
            (429, {"Retry-After": after}, {"error": {"message": "slow down"}}) if number == 0 else completion("well")
        )

    with Endpoint(respond) as endpoint:
        assert [answer.text for answer in ask(endpoint.url, 2, events=events)] == ["well", "well"]
    assert min(times[1:]) - times[0] > 0.9
    assert (events["status 429"], events["requests"]) == (1, 3)


def test_a_wait_that_is_too_long_ends_the_run():
    said = r"asks to wait 3600 s; start again then, every answer is kept"
    with says((429, {"Retry-After": "3600"}, b"")) as endpoint, pytest.raises(UserError, match=said):
        ask(endpoint.url)


def test_a_silent_endpoint_times_out_and_is_asked_again():
    release, events = threading.Event(), Counter()

    def respond(body, number):
        if number < 2:
            release.wait()
        return completion("well")

    with Endpoint(respond) as endpoint:
        [answer] = ask(endpoint.url, timeout=0.3, attempts=50, events=events)
        release.set()
    # on a busy machine an answer may be late, too
    assert answer.text == "well"
    assert events["time-out"] == len(endpoint.bodies) - 1 >= 2


@pytest.mark.parametrize("status", [400, 406, 413, 414, 415, 418, 422, 431, 451])
def test_any_number_of_requests_in_a_row_may_be_declined(status):
    """The endpoint is well: what it does not answer is passed by, and not asked twice."""
    with says(*[(status, {}, {"error": {"message": "too large"}})] * 5) as endpoint:
        found = ask(endpoint.url, 6, give_up=3)
    assert [str(one) for one in found[:5]] == [f"status {status} (too large)"] * 5
    assert all(isinstance(one, Declined) for one in found[:5])
    assert found[5].text == "well"


@pytest.mark.parametrize(
    ("response", "kind", "reason"),
    [
        ((200, {}, {"choices": []}), Declined, "no answer after 2 attempts: the endpoint sent no choice"),
        ((200, {}, b'{"choices": [{"mess'), Refused, "no answer after 2 attempts: the body is no chat completion"),
        ((200, {}, {"error": {"code": 400, "message": "too long"}}), Declined, "status 400 (too long)"),
        ((200, {}, {"error": "busy"}), Refused, "no answer after 2 attempts: status 502 (busy)"),
        ((403, {}, {"error": {"message": "input flagged", "metadata": {}}}), Declined, "status 403 (input flagged)"),
        ((400, {}, b"<html>"), Declined, "status 400 (<html>)"),
        ((400, {}, {"object": "error", "message": "too long"}), Declined, "status 400 (too long)"),
        ((422, {}, {"detail": "too long"}), Declined, "status 422 (too long)"),
        ((500, {}, b""), Refused, "no answer after 2 attempts: status 500"),
        (None, Refused, "no answer after 2 attempts: RemoteProtocolError"),
    ],
)
def test_refused_or_declined(response, kind, reason):
    """What would come again at each start is declined, what may pass is not."""
    with Endpoint(lambda body, number: response) as endpoint:
        [found] = ask(endpoint.url, attempts=2)
    assert type(found) is kind
    assert found.reason.startswith(reason)


def test_many_failures_in_a_row_end_the_run():
    said = "3 requests in a row failed, the last with no answer after 1 attempts: status 500"
    with Endpoint(lambda body, number: (500, {}, b"")) as endpoint, pytest.raises(UserError, match=said):
        ask(endpoint.url, 9, attempts=1, give_up=3)
    assert len(endpoint.bodies) == 3
    with pytest.raises(UserError, match=r"2 requests in a row failed.*ConnectError"):  # nobody is there now
        ask(endpoint.url, 2, attempts=2, give_up=2)


@pytest.mark.parametrize(
    ("status", "error"),
    [
        *((status, {"message": "sk-secret is unknown here"}) for status in (401, 402, 403, 404, 405, 407, 410)),
        (400, {"message": "API key not valid. Please pass a valid API key.", "status": "INVALID_ARGUMENT"}),
        (400, {"message": "The model `vlm` does not exist"}),
        (400, {"message": "?", "code": "model_not_found"}),
        (400, {"message": "?", "code": "insufficient_quota"}),
    ],
)
def test_what_is_about_every_request_ends_the_run_and_the_key_is_not_told(status, error):
    said = rf"status {status} \(.*check the address, the model's name and the key"
    with (
        Endpoint(lambda body, number: (status, {}, {"error": error})) as endpoint,
        pytest.raises(UserError, match=said) as raised,
    ):
        ask(endpoint.url, key="sk-secret")
    assert len(endpoint.bodies) == 1
    assert endpoint.headers[0]["authorization"] == "Bearer sk-secret"
    assert "secret" not in str(raised.value) + repr(Address(endpoint.url, "sk-secret"))


def test_a_redirect_is_not_followed_with_the_key():
    with says() as other:
        moved = (307, {"Location": f"{other.url}/chat/completions"}, b"")
        with says(moved) as endpoint, pytest.raises(UserError, match=rf"status 307 to {other.url}.*check the address"):
            ask(endpoint.url, key="sk-secret")
        assert other.bodies == []


def test_a_key(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "for-openai-only")
    monkeypatch.delenv("ADCOPILOT_API_KEY", raising=False)
    assert key_of() == ""
    monkeypatch.setenv("ADCOPILOT_API_KEY", " mine ")
    assert key_of() == "mine"
    monkeypatch.delenv("SOME_KEY", raising=False)
    with pytest.raises(UserError, match="environment variable SOME_KEY: not set"):
        key_of("SOME_KEY")
    monkeypatch.setenv("SOME_KEY", "sk-“secret”")
    with pytest.raises(UserError, match="environment variable SOME_KEY: holds something that is no key") as raised:
        key_of("SOME_KEY")
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        (None, "--url is missing, expected something like http"),
        ("localhost:8000", "--url is localhost:8000, expected"),
        ("http://[1", "expected something like http"),
        ("http://me:pass@host/v1", "--url of host: carries a password or a query; put the key into a variable"),
        ("ftp://me:pass@host/v1", "carries a password"),
        ("me:pass@host/v1", "--url is …@host/v1, expected"),
        ("https://host/v1?key=pass@", "carries a password or a query"),
    ],
)
def test_addresses(url, said):
    with pytest.raises(UserError, match=said) as raised:
        checked_address(url, setting="--url", key_goes="a variable")
    assert "pass@" not in str(raised.value)
