"""A chat engine that asks a server: `model_name_or_path: http://127.0.0.1:8000/v1`.

LlamaFactory's own vLLM engine runs inside its process and admits vLLM up to 0.11 only, while AD-Copilot's vLLM model
is for newer ones, which want another torch than training does. The two meet over HTTP: with an address in place of
a model's folder, LlamaBoard's chat, `webchat`, `chat` and `api` send what they are asked to an OpenAI-style server
(`vllm serve`, or another `llamafactory-cli api`) and pass its stream on. Any other model is loaded as before.
"""

from __future__ import annotations

import copy
import json
from collections.abc import AsyncGenerator
from typing import Any

import httpx
from llamafactory.chat.base_engine import BaseEngine, Response
from llamafactory.data.template import TEMPLATES
from llamafactory.extras.constants import IMAGE_PLACEHOLDER, EngineName

from ..answering.sizing import PROCESSOR_PIXELS
from ..endpoint.address import KEY_VARIABLE, Endpoint, checked_address, key_of, said
from ..endpoint.exchange import exchange_now
from ..endpoint.images import image_part, image_url
from ..errors import UserError, one_line
from ..images import open_image, resize_for_training
from ..vision_tokens import escape_system, escape_vision_tokens
from .matching import is_ours

#: Seconds until a connection is given up, and between two pieces of an answer (the first waits for the images).
CONNECT_TIMEOUT, READ_TIMEOUT = 10.0, 300.0


#: What LlamaFactory must have for this step (`gate.py`).
NEEDS = {
    "llamafactory.chat.hf_engine:HuggingfaceEngine": ("model_args", "data_args", "finetuning_args", "generating_args"),
    "llamafactory.chat.base_engine:BaseEngine": None,
}


def register(hf_engine) -> None:
    """Have `llamafactory.chat.hf_engine`'s engine give way to `ServerEngine` where the model is an address.

    `ChatModel` takes that engine unless told otherwise, and looks it up in its module each time.
    """
    if hasattr(hf_engine.HuggingfaceEngine, "adcopilot"):
        return

    class HuggingfaceEngine(hf_engine.HuggingfaceEngine):
        adcopilot = True

        def __new__(cls, model_args, *others):
            if is_address(model_args.model_name_or_path):
                return ServerEngine(model_args, *others)
            return super().__new__(cls)

    hf_engine.HuggingfaceEngine = HuggingfaceEngine


def is_address(model_name_or_path: str) -> bool:
    """Whether a model is named by the address of a server."""
    return model_name_or_path.startswith(("http://", "https://"))


class ServerProcessor:
    """What an AD-Copilot server does to images, as far as the place of a box depends on it.

    Images are brought between LlamaFactory's bounds here; below its own upper bound, the server's image processor only
    rounds sides to multiples of 28. Attributes are named as on a processor that LlamaFactory has loaded.
    """

    class image_processor:
        """Qwen2.5-VL's, by transformers' defaults."""

        patch_size = 14
        merge_size = 2
        size = dict(zip(("shortest_edge", "longest_edge"), PROCESSOR_PIXELS, strict=True))

    def __init__(self, *, image_max_pixels: int, image_min_pixels: int) -> None:
        self.image_max_pixels, self.image_min_pixels = image_max_pixels, image_min_pixels


class ServerEngine(BaseEngine):
    """AD-Copilot behind an OpenAI-style server, as an engine of LlamaFactory's `ChatModel`.

    Args:
        model_args: `model_name_or_path` is the address, as OpenAI clients take it; a name behind `#` picks one of
            several models there. `image_max_pixels` and `image_min_pixels` must be those of training.
        data_args: `template` must be adcopilot.
        finetuning_args: not used.
        generating_args: sampling, where a question brings none of its own.

    Raises:
        UserError: the server does not answer or lacks the model, or a setting does not fit.
    """

    def __init__(self, model_args, data_args, finetuning_args, generating_args) -> None:
        self.name, self.can_generate = EngineName.VLLM, True
        url, _, wanted = model_args.model_name_or_path.partition("#")
        self.url = checked_address(url, setting="model_name_or_path", key_goes=KEY_VARIABLE).rstrip("/")
        self.endpoint = Endpoint(self.url, key_of())
        # one of its own: the chat page changes `enable_thinking` in place
        self.template = copy.deepcopy(TEMPLATES.get(data_args.template))
        if self.template is None or not is_ours(self.template):
            raise UserError(
                f"{self.url}: a server needs template adcopilot, found template {data_args.template}; "
                "write `template: adcopilot`"
            )
        if model_args.adapter_name_or_path:
            raise UserError(
                f"{self.url}: adapters live on the server; name one behind #, without adapter_name_or_path"
            )
        most = ServerProcessor.image_processor.size["longest_edge"]
        if model_args.image_max_pixels > most:
            raise UserError(
                f"image_max_pixels {model_args.image_max_pixels}: above {most} a server resizes images by settings "
                "that are not known here, and boxes would be misplaced; choose less"
            )
        self.processor = ServerProcessor(
            image_max_pixels=model_args.image_max_pixels, image_min_pixels=model_args.image_min_pixels
        )
        self.generating_args = generating_args.to_dict()
        self._client = {
            "headers": self.endpoint.headers,
            "timeout": httpx.Timeout(READ_TIMEOUT, connect=CONNECT_TIMEOUT),
        }
        served = self._served()
        names = [model["id"] for model in served]
        if (wanted and wanted not in names) or not names:
            raise UserError(f"{self.url}: serves {', '.join(names) or 'no model'}, expected {wanted or 'one'}")
        self.model = wanted or names[0]
        # vLLM would take a repetition penalty from the model's generation_config.json, which counts against the digits
        # of boxes; others may refuse the field.
        vllm = served[names.index(self.model)].get("owned_by") == "vllm"
        self._extra = {"repetition_penalty": self.generating_args["repetition_penalty"]} if vllm else {}

    def _served(self) -> list[dict[str, Any]]:
        try:
            response = exchange_now("GET", f"{self.url}/models", client=self._client, seconds=READ_TIMEOUT)
            self._check(response.status_code, response.content)
            served = response.json()["data"]
            return [model for model in served if isinstance(model["id"], str)]
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError) as error:
            raise UserError(
                f"{self.url}: no answer ({error or type(error).__name__}); is the server running?"
            ) from error
        except (ValueError, KeyError, TypeError) as error:
            if isinstance(error, UserError):
                raise
            raise UserError(f"{self.url}/models: no list of models; expected an OpenAI-style server") from error

    async def stream_chat(
        self, messages, system=None, tools=None, images=None, videos=None, audios=None, **input_kwargs
    ) -> AsyncGenerator[str, None]:
        """As upstream's engines.

        Raises:
            UserError: the server refused or broke off, an image cannot be used, or something was asked that no server
                is asked.
        """
        async for piece, _ in self._pieces(messages, system, tools, images, videos, audios, **input_kwargs):
            yield piece

    async def chat(
        self, messages, system=None, tools=None, images=None, videos=None, audios=None, **input_kwargs
    ) -> list[Response]:
        """As upstream's engines; the numbers of tokens are 0 where the server does not tell them."""
        text, told = "", {}
        async for piece, chunk in self._pieces(messages, system, tools, images, videos, audios, **input_kwargs):
            text += piece
            told.update({key: value for key, value in chunk.items() if value})
        usage = told.get("usage") or {}
        return [
            Response(
                response_text=text,
                response_length=usage.get("completion_tokens", 0),
                prompt_length=usage.get("prompt_tokens", 0),
                finish_reason="length" if told.get("finish_reason") == "length" else "stop",
            )
        ]

    async def get_scores(self, batch_input, **input_kwargs) -> list[float]:
        """Servers have no reward models for this.

        Raises:
            NotImplementedError: always, as upstream's vLLM engine does.
        """
        raise NotImplementedError("A server engine does not support `get_scores`.")

    async def _pieces(self, messages, system, tools, images, videos, audios, **input_kwargs):
        if tools or videos or audios:
            raise UserError(f"{self.url}: tools, videos and audios are not sent to a server; leave them out")
        request = {
            "model": self.model,
            "messages": [{"role": "system", "content": escape_system(system)}] if system else [],
            "stream": True,
            "stream_options": {"include_usage": True},
            **self._sampling(input_kwargs),
            **self._extra,
        }
        request["messages"] += self._messages(messages, images or [])
        try:
            async with (
                httpx.AsyncClient(**self._client) as client,
                client.stream("POST", f"{self.url}/chat/completions", json=request) as response,
            ):
                if response.status_code != 200:
                    self._check(response.status_code, await response.aread())
                async for line in response.aiter_lines():
                    if line.startswith("data:") and line[5:].strip() != "[DONE]":
                        yield self._piece(line[5:])
        except httpx.HTTPError as error:
            raise UserError(f"{self.url}: the answer broke off ({one_line(error)})") from error

    def _sampling(self, asked: dict[str, Any]) -> dict[str, Any]:
        given = {key: value for key, value in asked.items() if value is not None}
        settings = {**self.generating_args, **given}
        greedy = not settings["do_sample"] or not settings["temperature"]
        limit = settings.get("max_new_tokens") or settings.get("max_length")
        fields = {"max_tokens": limit, "temperature": 0.0 if greedy else settings["temperature"]}
        return fields if greedy else {**fields, "top_p": settings["top_p"]}

    def _messages(self, messages: list[dict[str, str]], images: list[Any]) -> list[dict[str, Any]]:
        if images and not any(IMAGE_PLACEHOLDER in message["content"] for message in messages):
            first = {**messages[0], "content": IMAGE_PLACEHOLDER * len(images) + messages[0]["content"]}
            messages = [first, *messages[1:]]
        marks = sum(message["content"].count(IMAGE_PLACEHOLDER) for message in messages)
        if marks != len(images):
            raise UserError(
                f"{len(images)} images but {marks} {IMAGE_PLACEHOLDER} in the messages; write one for each"
            )
        left, sent = iter(images), []
        for message in messages:
            if message["role"] not in ("user", "assistant"):
                raise UserError(f"{self.url}: role {message['role']} is not sent to a server; choose user")
            content = []
            for index, text in enumerate(message["content"].split(IMAGE_PLACEHOLDER)):
                if index:
                    content.append(image_part(self._data_url(next(left))))
                if text:
                    content.append({"type": "text", "text": escape_vision_tokens(text)})
            if message["role"] == "assistant":  # servers want plain text there
                content = escape_vision_tokens(message["content"])
            sent.append({"role": message["role"], "content": content})
        return sent

    def _data_url(self, image: Any) -> str:
        # The same pixels as LlamaFactory's engines hand to the processor, without loss.
        bounds = {name: getattr(self.processor, name) for name in ("image_max_pixels", "image_min_pixels")}
        return image_url(resize_for_training(open_image(image), **bounds))

    def _check(self, status: int, content: bytes) -> None:
        if status != 200:
            raise UserError(f"{self.url}: {self.endpoint.reason(status, content)}")

    def _piece(self, data: str) -> tuple[str, dict[str, Any]]:
        try:
            chunk = json.loads(data)
            if chunk.get("error"):
                raise UserError(f"{self.url}: {self.endpoint.safe(said(data.encode()))}")
            choice = chunk["choices"][0] if chunk["choices"] else {}
            told = {"finish_reason": choice.get("finish_reason"), "usage": chunk.get("usage")}
            return (choice.get("delta") or {}).get("content") or "", told
        except UserError:
            raise
        except (ValueError, RecursionError, KeyError, IndexError, TypeError, AttributeError):
            raise UserError(
                f"{self.url}: sent something that is no piece of an answer: {data.strip()[:80]!r}"
            ) from None
