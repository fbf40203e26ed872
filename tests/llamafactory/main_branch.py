"""A stand-in for LlamaFactory's main branch (0.9.6.dev0, August 2026), which no index has: 0.9.5 with what differs
there where this package touches it. `install()` runs before torch is imported, so that the hook finds it changed.
"""

import importlib.machinery
import inspect
import sys

#: LlamaFactory module → what is changed right after it is imported.
CHANGES = {}


def install() -> None:
    sys.meta_path.insert(0, _Finder())


class _Finder:
    def find_spec(self, name, path=None, target=None):
        if name not in CHANGES:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        execute = spec.loader.exec_module

        def exec_module(module):
            execute(module)
            CHANGES[name](module)

        spec.loader.exec_module = exec_module
        return spec


def _changes(name):
    def add(function):
        CHANGES[name] = function
        return function

    return add


@_changes("llamafactory.extras.env")
def _version(env):
    env.VERSION = "0.9.6.dev0"


@_changes("llamafactory.data.processor.supervised")
def _cut_samples_are_none(supervised):
    kind = supervised.SupervisedDatasetProcessor
    encode, preprocess = kind._encode_data_example, kind.preprocess_dataset

    def _encode_data_example(self, prompt, response, system, tools, images, videos, audios):
        found = encode(self, prompt, response, system, tools, images, videos, audios)
        media = images or videos or audios
        return None if media and len(found[0]) >= self.data_args.cutoff_len else found

    def preprocess_dataset(self, examples):
        """Drops the samples that are None, as main does."""
        kept = []
        for row in range(len(examples["_prompt"])):
            sample = {key.removeprefix("_"): values[row] for key, values in examples.items()}
            for media in ("images", "videos", "audios"):
                sample[media] = sample[media] or []
            if self._encode_data_example(**sample) is not None:
                kept.append(row)
        return preprocess(self, {key: [values[row] for row in kept] for key, values in examples.items()})

    kind._encode_data_example, kind.preprocess_dataset = _encode_data_example, preprocess_dataset


@_changes("llamafactory.webui.chatter")
def _settings_in_another_order(chatter):
    stream = chatter.WebChatModel.stream
    names = list(inspect.signature(stream).parameters)

    def reordered(self, *args, **kwargs):
        given = dict(zip(["self", *reversed(names[1:])], (self, *args), strict=False)) | kwargs
        for chatbot, messages in stream(**given):
            yield chatbot, messages, "what main adds"

    parameters = [inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD) for name in ("self", *names[:0:-1])]
    reordered.__signature__ = inspect.Signature(parameters)
    chatter.WebChatModel.stream = reordered
