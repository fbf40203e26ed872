"""Rollouts from vLLM servers: any number of them, on this machine or others, talked to over their OpenAI-style API.

A server holds the base weights; after each update the trainer writes its LoRA adapter into a folder that both sides
see, and each server is told to load it. A server that is lost costs the time of its unfinished prompts: others take
them over, and it is asked again until it is back, with the current adapter loaded anew.

Nothing that a server says is trusted: token ids are checked before they are trained on, and a prompt that the server
counts otherwise than the trainer's own processor ends the run, because rewards would be given for another question.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from PIL import Image

from ..cli.saying import say
from ..errors import UserError, reason_of
from .rollout_server import RolloutServer, Sampling, ServerDown, Unusable, openai_messages

__all__ = ["RolloutServers", "publish_adapter"]

#: One prompt may fail so often, at servers that are there, before the run ends.
MAX_FAILURES = 5
#: Seconds between two looks at a server that is down.
PROBE = 2.0
#: Folders of adapters that are kept: the current one, and the one that a slow server may still be reading.
KEPT_ADAPTERS = 2


def publish_adapter(folder: Path, save: Callable[[str], None]) -> None:
    """Write an adapter's folder so that it is there whole or not at all, and remove old ones.

    Raises:
        UserError: the disk is full, or the folder cannot be written.
    """
    part = folder.with_name(f".{folder.name}.part")
    try:
        shutil.rmtree(part, ignore_errors=True)
        folder.parent.mkdir(parents=True, exist_ok=True)
        save(str(part))
        os.replace(part, folder)
        written = sorted(folder.parent.glob("policy-*"), key=lambda path: path.stat().st_mtime)
        for old in written[:-KEPT_ADAPTERS]:
            shutil.rmtree(old, ignore_errors=True)
    except Exception as error:  # safetensors has its own errors for a full disk
        raise UserError(
            f"{folder}: the adapter cannot be written ({reason_of(error)}); make room and start again"
        ) from None


@dataclass(eq=False)
class _Task:
    """One prompt: its request, where its `count` completions go, and its tokens as the trainer counts them."""

    first: int
    count: int
    body: dict[str, Any]
    prompt_ids: list[int]
    failures: int = 0

    def failed(self, why: str) -> str | None:
        """Count a failure; the run's error if there were too many."""
        self.failures += 1
        return None if self.failures < MAX_FAILURES else f"{why} (a prompt failed {self.failures} times)"


@dataclass(eq=False)
class _Round:
    """The prompts of one call of `generate`, shared by the threads that ask for them."""

    waiting: deque[_Task]
    left: int
    results: list[list[int] | None]
    error: str | None = None
    changed: threading.Condition = field(default_factory=threading.Condition)

    def over(self) -> bool:
        return self.left == 0 or self.error is not None


class RolloutServers:
    """The servers of a run.

    Args:
        urls: of the servers (`http://127.0.0.1:8000`).
        sampling: how completions are drawn.
        concurrency: prompts in flight at each server; the rest wait here.
        timeout: seconds for the completions of one prompt.
        patience: seconds to wait while no server answers.
        adapter_dir: folder for the adapters, seen by the servers under the same path.
        say: called with a line when a server is lost or comes back.
    """

    def __init__(
        self,
        *,
        urls: Sequence[str],
        sampling: Sampling,
        concurrency: int,
        timeout: float,
        patience: float,
        adapter_dir: str | Path,
        say: Callable[[str], None] = say,
    ) -> None:
        self.servers = [RolloutServer(url=url, timeout=timeout) for url in dict.fromkeys(urls)]
        self.sampling, self.concurrency, self.patience = sampling, concurrency, patience
        self.adapter_dir = Path(adapter_dir).resolve()
        self.say = say
        self._run = uuid.uuid4().hex[:8]
        self._policy: str | None = None
        self._last_answer = time.monotonic()

    def adapter_folder(self, step: int) -> Path:
        """Where this process would put the adapter of a step; other runs, and this one resumed, have other names."""
        return self.adapter_dir / f"policy-{self._run}-{step:06d}"

    def set_policy(self, folder: str) -> None:
        """Completions come from this adapter from now on.

        Servers load it at once; one that is away, before its next prompt.

        Raises:
            UserError: a server refuses it.
        """
        self._policy = folder
        for server in self.servers:
            with server.lock, contextlib.suppress(ServerDown, Unusable):
                server.load(folder)

    def generate(
        self,
        *,
        prompts: Sequence[Sequence[Mapping[str, Any]]],
        images: Sequence[Sequence[Image.Image]],
        prompt_ids: Sequence[list[int]],
    ) -> list[list[int]]:
        """Completions of all prompts; equal ones that follow one another are asked for together.

        Args:
            prompts: conversations as `RolloutPrompts` makes them.
            images: of each prompt, resized as the trainer's processor takes them.
            prompt_ids: tokens of each prompt as the trainer's processor counts them, pads of images included.

        Returns:
            Token ids of each prompt's completion, the end token included.

        Raises:
            UserError: no server answered for `patience` seconds, a server counts a prompt's tokens otherwise, or its
                answers stayed unusable.
        """
        tasks = self._tasks(prompts, images, prompt_ids)
        round_ = _Round(waiting=deque(tasks), left=len(tasks), results=[None] * len(prompts))
        self._last_answer = time.monotonic()
        threads = [
            threading.Thread(target=self._work, args=(server, round_), daemon=True)
            for server in self.servers
            for _ in range(min(self.concurrency, len(tasks)))
        ]
        for thread in threads:
            thread.start()
        with round_.changed:
            while not round_.over():
                round_.changed.wait(0.5)
                quiet = time.monotonic() - self._last_answer
                if all(server.down for server in self.servers) and quiet > self.patience:
                    addresses = ", ".join(server.url for server in self.servers)
                    round_.error = (
                        f"no rollout server has answered for {self.patience:.0f} s ({addresses}); start one and run "
                        "the same command again, it goes on from the last checkpoint"
                    )
            round_.changed.notify_all()
        if round_.error is not None:
            raise UserError(round_.error)
        return [ids for ids in round_.results if ids is not None]

    def _tasks(self, prompts, images, prompt_ids) -> list[_Task]:
        tasks: list[_Task] = []
        for index, (prompt, pictures, ids) in enumerate(zip(prompts, images, prompt_ids, strict=True)):
            if tasks and tasks[-1].prompt_ids == ids and _same(images[tasks[-1].first], pictures):
                tasks[-1].count += 1
                continue
            body = {"messages": openai_messages(prompt, pictures), **self.sampling.request()}
            tasks.append(_Task(first=index, count=1, body=body, prompt_ids=ids))
        return tasks

    def _work(self, server: RolloutServer, round_: _Round) -> None:
        """One of the requests in flight at a server, until all prompts are answered."""
        while True:
            with round_.changed:
                while not round_.waiting and not round_.over():
                    round_.changed.wait(0.5)
                if round_.over():
                    return
            if server.down and not self._back(server):
                time.sleep(PROBE)
                continue
            with round_.changed:
                if not round_.waiting or round_.over():
                    continue
                task = round_.waiting.popleft()
            error = None
            try:
                completions = self._ask(server, task)
            except ServerDown as down:
                completions = None
                if server.alive():  # it is there and still fails: not for ever, or a step would never end
                    error = task.failed(str(down))
                    time.sleep(PROBE)
                else:
                    self._lost(server, str(down))
            except Unusable as unusable:
                completions, error = None, task.failed(f"{server.url}: {unusable}")
            except UserError as refused:
                completions, error = None, str(refused)
            except Exception as bug:  # a thread that died silently would leave the trainer waiting
                completions, error = None, f"{server.url}: {type(bug).__name__} {bug}"
            with round_.changed:
                if completions is None:
                    round_.waiting.appendleft(task)
                    round_.error = round_.error or error
                else:
                    round_.results[task.first : task.first + task.count] = completions
                    round_.left -= 1
                    self._last_answer = time.monotonic()
                round_.changed.notify_all()

    def _lost(self, server: RolloutServer, why: str) -> None:
        with server.lock:
            if not server.down:
                self.say(f"rollouts: lost {why}; its prompts go to others until it is back")
            server.down, server.policy = True, None

    def _back(self, server: RolloutServer) -> bool:
        if not server.alive():
            return False
        with server.lock:
            if server.down:
                self.say(f"rollouts: {server.url} is back")
            server.down = False
        return True

    def _ask(self, server: RolloutServer, task: _Task) -> list[list[int]]:
        if self._policy is None:
            raise ValueError("set_policy comes before generate")
        with server.lock:
            server.load(self._policy)
        response = server.post(
            "/v1/chat/completions", {**task.body, "model": Path(self._policy).name, "n": task.count}
        )
        if response.status_code in (408, 429) or response.status_code >= 500:
            raise ServerDown(f"{server.url}: {server.said(response)}")
        if response.status_code == 404:  # a server that was restarted in between has forgotten the adapter
            with server.lock:
                server.policy = None
            raise Unusable(f"no model {Path(self._policy).name}: {server.said(response)}")
        if response.status_code != 200:
            raise UserError(
                f"{server.url}: refuses a prompt of {len(task.prompt_ids)} tokens ({server.said(response)})"
            )
        return self._completions(response, task, server.url)

    def _completions(self, response: httpx.Response, task: _Task, url: str) -> list[list[int]]:
        try:
            answer = response.json()
            choices = {choice["index"]: choice["token_ids"] for choice in answer["choices"]}
            numbers = [choice["index"] for choice in answer["choices"]]
            prompt = answer["prompt_token_ids"]
        except (ValueError, KeyError, TypeError, RecursionError):
            raise Unusable(f"no chat completion with token ids: {response.content[:60]!r}") from None
        # Each sample once: one that is there twice would count twice in its group's mean.
        if any(type(number) is not int for number in numbers) or sorted(numbers) != list(range(task.count)):
            raise Unusable(f"completions with the index {numbers[:8]}, expected 0 to {task.count - 1}, each once")
        if not _is_ids(prompt, self.sampling.vocabulary):
            raise Unusable("a prompt that is no list of token ids")
        found = [choices[number] for number in range(task.count)]
        if prompt != task.prompt_ids:
            raise UserError(
                f"{url}: reads a prompt of {len(task.prompt_ids)} tokens as {len(prompt)}"
                + _difference(prompt, task.prompt_ids)
                + "; serve the same model folder, with the same processor settings, as model_name_or_path"
            )
        for ids in found:
            if not _is_ids(ids, self.sampling.vocabulary) or not 0 < len(ids) <= self.sampling.max_tokens:
                raise Unusable(f"a completion that is not 1 to {self.sampling.max_tokens} token ids")
            if set(ids) & set(self.sampling.banned):
                raise Unusable("a completion with a token that stands for an image")
        return found


def _same(one: Sequence[Image.Image], other: Sequence[Image.Image]) -> bool:
    return len(one) == len(other) and all(a is b for a, b in zip(one, other, strict=True))


def _is_ids(value: Any, vocabulary: int) -> bool:
    return isinstance(value, list) and all(type(one) is int and 0 <= one < vocabulary for one in value)


def _difference(found: list[int], expected: list[int]) -> str:
    for index, (one, other) in enumerate(zip(found, expected, strict=False)):
        if one != other:
            return f" (token {index} is {one}, expected {other})"
    return ""
