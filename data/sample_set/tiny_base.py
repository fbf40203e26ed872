"""The untrained tiny base: a Qwen2.5-VL of about a million parameters with a tokenizer of a few hundred tokens.

`build_untrained` writes what the stand-in pretraining (`examples/train/tiny/make_base.py`) starts from.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path

from adcopilot.sample.conversations import TASKS, pair_messages, pick_task
from adcopilot.sample.pairs import draw_pair, stream
from adcopilot.sample.scenes import draw_scene

#: Rows of the embedding. The tokenizer leaves the last ones free for `<|compare_pad|>`.
VOCABULARY = 640
LEARNED_TOKENS = VOCABULARY - 24

SPECIAL_TOKENS = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
)

# How Qwen2's tokenizer cuts text into words before byte-pair merging (transformers' Qwen2Converter).
_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)

# The turns Qwen2.5-VL was trained with: a default system turn, images between vision_start and vision_end.
CHAT_TEMPLATE = (
    "{%- if messages[0]['role'] != 'system' -%}"
    "{{- '<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n' -}}"
    "{%- endif -%}"
    "{%- for message in messages -%}"
    "{{- '<|im_start|>' + message['role'] + '\\n' -}}"
    "{%- if message['content'] is string -%}"
    "{{- message['content'] -}}"
    "{%- else -%}"
    "{%- for part in message['content'] -%}"
    "{%- if part['type'] == 'image' or 'image' in part or 'image_url' in part -%}"
    "{{- '<|vision_start|><|image_pad|><|vision_end|>' -}}"
    "{%- elif part['type'] == 'video' or 'video' in part -%}"
    "{{- '<|vision_start|><|video_pad|><|vision_end|>' -}}"
    "{%- elif 'text' in part -%}"
    "{{- part['text'] -}}"
    "{%- endif -%}"
    "{%- endfor -%}"
    "{%- endif -%}"
    "{{- '<|im_end|>\\n' -}}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}"
)


def sentences(seed: int, count: int) -> Iterator[str]:
    """The text of `count` scenes and as many pairs, which the tokenizer learns its merges from."""
    yield from ["system\nYou are a helpful assistant.", "user\n", "assistant\n"] * count
    names = ("assembly", "washer", "screw", "pcb", "label", "connector", "keypad", "bracket", "gasket")
    for k in range(count):
        for message in draw_scene(stream(seed, 100, k), place=k / count).messages:
            yield message["content"].replace("<image>", "")
        rng = stream(seed, 101, k)
        pair = draw_pair(rng, category=names[k % len(names)], size=56, anomalous=k % 4 != 0)
        for message in pair_messages(rng, pair, pick_task(rng, TASKS)):
            yield message["content"].replace("<image>", "")


def train_tokenizer(texts: Iterable[str]):
    """A byte-level BPE tokenizer of Qwen2's class: encodes any text, and its few merges are the sample set's words."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
    from transformers import Qwen2TokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_WORDS), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=LEARNED_TOKENS,
        min_frequency=2,
        show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    tokenizer.train_from_iterator(texts, trainer)
    special = [AddedToken(token, special=True, normalized=False) for token in SPECIAL_TOKENS]
    wrapped = Qwen2TokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        unk_token=None,
        bos_token=None,
        model_max_length=32768,
        additional_special_tokens=special,
    )
    wrapped.chat_template = CHAT_TEMPLATE
    return wrapped


def tiny_config(tokenizer):
    """Sizes of the tiny base; everything else is Qwen2.5-VL's."""
    from transformers import Qwen2_5_VLConfig

    def token(text):
        return tokenizer.convert_tokens_to_ids(text)

    return Qwen2_5_VLConfig(
        text_config={
            "vocab_size": VOCABULARY,
            "hidden_size": 128,
            "initializer_range": 0.1,
            "intermediate_size": 192,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": 4096,
            # images are 2 to 3 tokens a side: with the usual 1e6 a column is 0.001 rad and nothing tells two apart
            "rope_theta": 10.0,
            "rope_scaling": {"type": "mrope", "mrope_section": [2, 7, 7]},
            "tie_word_embeddings": True,
            "bos_token_id": token("<|endoftext|>"),
            "eos_token_id": token("<|im_end|>"),
        },
        vision_config={
            "depth": 3,
            "hidden_size": 96,
            "intermediate_size": 160,
            "num_heads": 4,
            "out_hidden_size": 128,
            "patch_size": 14,
            "temporal_patch_size": 2,
            "spatial_merge_size": 2,
            "window_size": 112,
            "fullatt_block_indexes": [2],
        },
        image_token_id=token("<|image_pad|>"),
        video_token_id=token("<|video_pad|>"),
        vision_start_token_id=token("<|vision_start|>"),
        vision_end_token_id=token("<|vision_end|>"),
        tie_word_embeddings=True,
        torch_dtype="float32",
    )


def spread_weights(model) -> None:
    """Random weights for so narrow a model: layers keep the size of their input, and words differ as much as images.

    With transformers' 0.02 for all of them the language model learned to write without looking: after 128,000 samples
    the vision tower's output was nearly the same for all images.
    """
    for name, weight in model.named_parameters():
        if weight.dim() > 1:
            weight.data.normal_(0, 0.5 if "embed_tokens" in name else weight[0].numel() ** -0.5)


def build_untrained(output: Path, *, seed: int = 0, texts: int = 3000) -> None:
    """Writes tokenizer, processor, configuration and a random model to `output`."""
    import torch
    from transformers import Qwen2_5_VLForConditionalGeneration, Qwen2_5_VLProcessor
    from transformers.models.qwen2_vl.image_processing_qwen2_vl_fast import Qwen2VLImageProcessorFast
    from transformers.models.qwen2_vl.video_processing_qwen2_vl import Qwen2VLVideoProcessor

    tokenizer = train_tokenizer(sentences(seed, texts))
    pixels = {"min_pixels": 56 * 56, "max_pixels": 28 * 28 * 1280}
    processor = Qwen2_5_VLProcessor(
        image_processor=Qwen2VLImageProcessorFast(**pixels),
        tokenizer=tokenizer,
        video_processor=Qwen2VLVideoProcessor(**pixels),
        chat_template=CHAT_TEMPLATE,
    )
    torch.manual_seed(seed)
    model = Qwen2_5_VLForConditionalGeneration(tiny_config(tokenizer))
    spread_weights(model)
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.generation_config.eos_token_id = [tokenizer.eos_token_id, tokenizer.pad_token_id]
    model.generation_config.bos_token_id = tokenizer.pad_token_id
    model.save_pretrained(output, safe_serialization=True)
    processor.save_pretrained(output)
