"""Configuration of AD-Copilot: Qwen2.5-VL's, plus the Comparison Encoder's."""

from transformers.models.qwen2_5_vl.configuration_qwen2_5_vl import Qwen2_5_VLConfig

COMPARISON_TOKEN = "<|compare_pad|>"

# What transformers' auto classes find in a saved folder that holds the model's code, by file and class.
AUTO_MAP = {
    "AutoConfig": "configuration.AdCopilotConfig",
    "AutoModel": "modeling.AdCopilotModel",
    "AutoModelForImageTextToText": "modeling.AdCopilotForConditionalGeneration",
    "AutoModelForVision2Seq": "modeling.AdCopilotForConditionalGeneration",  # transformers 4
    "AutoModelForMultimodalLM": "modeling.AdCopilotForConditionalGeneration",  # transformers 5
    "AutoProcessor": "processing.AdCopilotProcessor",
}

# The versions of transformers that gave equal logits and generations (docs/versions.md). Those between them are
# expected to, 5.3 to 5.5.3 apart; what cannot be compared is stopped by checks in modeling.py and upstream.py.
TRANSFORMERS_TRIED = (
    *("4.57.1", "4.57.6", "5.0.0", "5.1.0", "5.2.0", "5.5.4", "5.6.0", "5.8.0", "5.10.4", "5.13.1", "5.16.1"),
    *("5.17.0", "5.18.0", "5.19.0", "5.20.2", "5.22.2", "5.24.0"),
)

POSITION_ENCODINGS = ("none", "rope2d")
POSITION_IDS = ("scaled", "fixed")


def rope_as_transformers_4(text: dict) -> dict:
    """`text_config` of a config.json with rotary positions as transformers 4 has them, which 5 reads too; the same
    object where they are, or where they are of no known form."""
    rope = text.get("rope_parameters")
    if not isinstance(rope, dict) or "rope_theta" not in rope:
        return text
    scaling = {name: value for name, value in rope.items() if name != "rope_theta"}
    return {
        **{name: value for name, value in text.items() if name != "rope_parameters"},
        "rope_theta": rope["rope_theta"],
        "rope_scaling": {**scaling, "type": scaling.get("rope_type", "default")},
    }


class AdCopilotConfig(Qwen2_5_VLConfig):
    """Qwen2.5-VL's configuration with the fields of the Comparison Encoder (paper, section IV-B).

    The encoder's width, feed-forward width and norm follow `vision_config`; its output width is the language model's.

    Args:
        num_comparison_tokens: L, the learnable queries and so the comparison tokens of each image. The paper's 100 is
            the diagonal of its default 100 x 100 grid.
        comparison_num_heads: heads of the three cross-attentions. The paper does not say; by default the vision
            tower's. 20 heads make them 64 wide at 7B, which more flash kernels accept than 16 heads of 80.
        comparison_position_encoding: `none`, the paper: content alone is matched. `rope2d`: rotary positions on the
            cross-attentions' queries and keys, in coordinates relative to each image's extent.
        comparison_position_ids: mRoPE ids of the comparison tokens. `scaled` spreads them over the image's own
            diagonal, `fixed` steps by one along the diagonal from the image's first corner (paper, Figure 3, right).
        adcopilot_version: of the package whose code was saved beside the weights; written when a model is saved.
        transformers_tried: the versions of transformers that this code was tried with; likewise.
        comparison_of_first: whether the first image of a conversation, which has none before it, is compared with
            itself (the paper) or gets no comparison tokens (false: they cost prefill and say nothing of a difference).
        comparison_token_id: id of `<|compare_pad|>`. 151665 is the first free row of Qwen2.5-VL's vocabulary.
        kwargs: everything of `Qwen2_5_VLConfig`.

    Raises:
        ValueError: a value that is not one of the above, or heads that do not divide the vision tower's width.
    """

    model_type = "adcopilot"
    package_version = None  # where the package itself is installed, `registration.py` sets it

    def __init__(
        self,
        *,
        num_comparison_tokens: int = 100,
        comparison_num_heads: int | None = None,
        comparison_position_encoding: str = "none",
        comparison_position_ids: str = "scaled",
        comparison_of_first: bool = True,
        comparison_token_id: int = 151665,
        adcopilot_version: str | None = None,
        transformers_tried: list[str] | None = None,
        **kwargs,
    ):
        # transformers 4 leaves a top-level `tie_word_embeddings: true` out of config.json (its default) and ties by
        # text_config's; transformers 5 reads the top level alone and would make up a new, random lm_head.
        text = kwargs.get("text_config")
        if isinstance(text, dict):
            if text.get("tie_word_embeddings"):
                kwargs.setdefault("tie_word_embeddings", True)
            # transformers 4 leaves out that there is none; transformers 5 would put Qwen2.5's own in its place
            kwargs["text_config"] = {"bos_token_id": None, **text}
        super().__init__(**kwargs)
        vision = self.vision_config
        # What it is called since transformers 5.6. Before, 5.x called it `qwen2_5_vl` too, and because of that took
        # this model's weights for an old Qwen2-VL's: wrote them under other names, found none of them in `AutoModel`.
        vision.model_type = "qwen2_5_vl_vision"
        self.num_comparison_tokens = num_comparison_tokens
        self.comparison_num_heads = comparison_num_heads or vision.num_heads
        self.comparison_position_encoding = comparison_position_encoding
        self.comparison_position_ids = comparison_position_ids
        self.comparison_of_first = comparison_of_first
        self.comparison_token_id = comparison_token_id
        self.adcopilot_version = adcopilot_version
        self.transformers_tried = transformers_tried

        if num_comparison_tokens < 1:
            raise ValueError(f"num_comparison_tokens is {num_comparison_tokens}, expected 1 or more")
        if comparison_position_encoding not in POSITION_ENCODINGS:
            raise ValueError(
                f"comparison_position_encoding is {comparison_position_encoding!r}, "
                f"expected one of {POSITION_ENCODINGS}"
            )
        if comparison_position_ids not in POSITION_IDS:
            raise ValueError(f"comparison_position_ids is {comparison_position_ids!r}, expected one of {POSITION_IDS}")
        if not isinstance(comparison_of_first, bool):
            raise ValueError(f"comparison_of_first is {comparison_of_first!r}, expected true or false")
        if vision.hidden_size % self.comparison_num_heads:
            raise ValueError(
                f"comparison_num_heads is {self.comparison_num_heads}, which does not divide the vision tower's width "
                f"{vision.hidden_size}"
            )
        if comparison_position_encoding == "rope2d" and (vision.hidden_size // self.comparison_num_heads) % 4:
            raise ValueError(
                f"rope2d needs a head width divisible by 4, found {vision.hidden_size // self.comparison_num_heads}: "
                "change comparison_num_heads"
            )

    def save_pretrained(self, save_directory, *args, **kwargs) -> None:
        """As upstream's; where the model's code is saved, `auto_map` names all auto classes, not just the one that
        upstream knows a class by, and the versions of the code are written down."""
        if any(name.startswith("AutoModel") for name in getattr(self, "auto_map", None) or {}):
            self.auto_map = dict(AUTO_MAP)
            self.adcopilot_version = self.package_version or self.adcopilot_version
            self.transformers_tried = list(TRANSFORMERS_TRIED)
        super().save_pretrained(save_directory, *args, **kwargs)

    def to_diff_dict(self) -> dict:
        """As upstream's, which writes config.json; rotary positions as transformers 4 has them, which 5 reads too, so
        that a folder saved by either opens in both."""
        fields = super().to_diff_dict()
        text = fields.get("text_config") or {}
        if text.get("rope_parameters"):
            rope = {"rope_theta": self.text_config.rope_parameters["rope_theta"], **text["rope_parameters"]}
            fields["text_config"] = rope_as_transformers_4({**text, "rope_parameters": rope})
        return fields


__all__ = ["COMPARISON_TOKEN", "AdCopilotConfig"]
