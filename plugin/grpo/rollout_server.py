"""One vLLM server: its connection, the adapter it has loaded, and what is asked of it."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from PIL import Image

from ..endpoint.address import Endpoint, key_of
from ..endpoint.exchange import TooLarge, exchange_now
from ..endpoint.images import image_part, image_url
from ..errors import UserError

__all__ = ["RolloutServer", "Sampling", "ServerDown", "Unusable", "check_servers", "openai_messages"]


class ServerDown(Exception):
    """The server cannot be reached, or says that it cannot answer now."""


class Unusable(Exception):
    """The server answered with something that is no set of completions."""


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How completions are drawn, the same as transformers' `generate` would.

    Attributes:
        max_tokens: longest completion.
        temperature, top_p, top_k, min_p, repetition_penalty: as TRL's, None where it has no such limit.
        banned: token ids that stand for images and are never to be generated.
        vocabulary: number of token ids that there are.
    """

    max_tokens: int
    temperature: float
    top_p: float
    top_k: int | None
    min_p: float | None
    repetition_penalty: float
    banned: tuple[int, ...]
    vocabulary: int

    def request(self) -> dict[str, Any]:
        """The fields of a request. All are given, or the server would take them from generation_config.json.

        No seed: a server's batches change from run to run, and its rounding with them, so a seed would promise what
        does not hold; and on a CPU vLLM 0.32.0 stops when a request with one is prefilled in chunks.
        """
        return {
            "max_tokens": self.max_tokens,
            "temperature": self.temperature,
            "top_p": self.top_p,
            "top_k": self.top_k or -1,
            "min_p": self.min_p or 0.0,
            "repetition_penalty": self.repetition_penalty,
            "logit_bias": {str(token): -100.0 for token in self.banned},
            "return_token_ids": True,
        }


class RolloutServer:
    """One server: its connection, the adapter it has, and whether it was there when last asked."""

    def __init__(self, *, url: str, timeout: float) -> None:
        self.url = url.rstrip("/").removesuffix("/v1")
        self.endpoint = Endpoint(self.url, key_of())
        self.timeout = timeout
        self.policy: str | None = None
        self.down = False
        self.lock = threading.Lock()

    def post(self, path: str, body: Mapping[str, Any]) -> httpx.Response:
        """The response, whatever its status.

        Raises:
            ServerDown: there is no connection.
            Unusable: no whole answer in time, or one without an end.
        """
        try:
            return self._exchange("POST", path, seconds=self.timeout, connect=10.0, json=body)
        except TimeoutError:
            raise Unusable(f"no whole answer within rollout_timeout, {self.timeout:g} s") from None
        except TooLarge as error:
            raise Unusable(str(error)) from None
        except httpx.HTTPError as error:
            raise ServerDown(f"{self.url}: {type(error).__name__} {error}".strip()) from None

    def alive(self) -> bool:
        """Whether it says, within five seconds, that it is there."""
        try:
            return self._exchange("GET", "/health", seconds=5.0, connect=5.0).status_code == 200
        except (TimeoutError, httpx.HTTPError):
            return False

    def _exchange(self, method: str, path: str, *, connect: float, **request: Any) -> httpx.Response:
        client = {"headers": self.endpoint.headers, "timeout": httpx.Timeout(None, connect=connect)}
        return exchange_now(method, f"{self.url}{path}", client=client, **request)

    def said(self, response: httpx.Response) -> str:
        """A response's status and what it says, for a message."""
        return self.endpoint.reason(response.status_code, response.content)

    def load(self, folder: str) -> None:
        """Load the adapter of a folder, and forget the one before.

        Raises:
            ServerDown: it cannot be asked now.
            UserError: it refuses adapters.
        """
        name = Path(folder).name
        if self.policy == name:
            return
        response = self.post("/v1/load_lora_adapter", {"lora_name": name, "lora_path": folder})
        if response.status_code == 404 and '"Not Found"' in response.text:  # the path itself is unknown
            raise UserError(
                f"{self.url}: does not load adapters; start it with VLLM_ALLOW_RUNTIME_LORA_UPDATING=True and "
                "--enable-lora (docs/serving.md)"
            )
        # Another process of this run may have been first.
        if response.status_code != 200 and "already been loaded" not in response.text:
            if not self.alive():
                raise ServerDown(f"{self.url}: status {response.status_code}")
            raise UserError(
                f"{self.url}: refuses the adapter {folder} ({self.said(response)}); it must see this folder (set "
                "rollout_adapter_dir to a shared one) and be started with --enable-lora and a --max-lora-rank of at "
                "least lora_rank"
            )
        if self.policy is not None:
            with contextlib.suppress(ServerDown, Unusable):  # it will be asked again before it is used
                self.post("/v1/unload_lora_adapter", {"lora_name": self.policy})
        self.policy = name


def check_servers(urls: Sequence[str]) -> None:
    """Ask every server whether it is there, before anything long begins.

    Raises:
        UserError: one does not answer.
    """
    for url in urls:
        server = RolloutServer(url=url, timeout=5.0)
        if not server.alive():
            raise UserError(
                f"rollout_server {server.url}: does not answer at /health; start `vllm serve` there "
                "(docs/serving.md), or correct the address"
            )


def openai_messages(prompt: Sequence[Mapping[str, Any]], images: Sequence[Image.Image]) -> list[dict[str, Any]]:
    """OpenAI's form of a conversation, images as PNG: lossless, so that the server sees the trainer's pixels."""
    pictures = iter(images)
    return [
        {
            "role": message["role"],
            "content": [
                image_part(image_url(next(pictures))) if part["type"] == "image" else part
                for part in message["content"]
            ],
        }
        for message in prompt
    ]
