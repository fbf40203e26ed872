"""Template, mm plugin and model group `adcopilot`."""

import copy
import dataclasses
import functools

from ..vision_tokens import escape_system, escape_tools
from .composite import MODEL_TYPE
from .hook import wrap_once
from .matching import check_when_chosen, is_ours

TEMPLATE = "adcopilot"

#: The authors' released checkpoints, as LlamaBoard and `model_name_or_path` name them.
CHECKPOINTS = {
    "AD-Copilot": "jiang-cc/AD-Copilot",
    "AD-Copilot-Thinking": "jiang-cc/AD-Copilot-Thinking",
}


#: What LlamaFactory must have for this step (`gate.py`).
NEEDS = {
    "llamafactory.data.template:TEMPLATES.qwen2_vl": None,
    "llamafactory.data.template:Template.fix_special_tokens": ("tokenizer",),
    "llamafactory.data.template:Template._encode": ("tokenizer", "messages", "system", "tools"),
    "llamafactory.data.mm_plugin:PLUGINS": None,
    "llamafactory.data.mm_plugin:register_mm_plugin": ("name", "plugin_class"),
    "llamafactory.data.mm_plugin:get_mm_plugin": ("name", "image_token", "video_token"),
    "llamafactory.data.mm_plugin:Qwen2VLPlugin.process_messages": (
        *("messages", "images", "videos", "audios", "processor"),
    ),
    "llamafactory.data.mm_plugin:Qwen2VLPlugin._get_mm_token_metadata": ("images", "videos", "audios", "processor"),
    "llamafactory.data.mm_plugin:Qwen2VLPlugin._regularize_images": ("images",),
    "llamafactory.data.mm_plugin:Qwen2VLPlugin._validate_input": ("processor", "images", "videos", "audios"),
    "llamafactory.data.mm_plugin:Qwen2VLPlugin._validate_messages": ("messages", "images", "videos", "audios"),
    "llamafactory.extras.constants:MROPE_MODELS": None,
    "llamafactory.extras.constants:IMAGE_PLACEHOLDER": None,
    "llamafactory.extras.constants:DownloadSource.DEFAULT": None,
    "llamafactory.extras.constants:register_model_group": ("models", "template", "multimodal"),
}


def register(template) -> None:
    """Register with `llamafactory.data.template`, `…data.mm_plugin` and `…extras.constants`.

    Every template also gets a check that it fits the model it is chosen for (`matching.py`).

    The text is Qwen2-VL's template's to the letter, taken from LlamaFactory itself; only what an `<image>` becomes
    differs, which is the mm plugin's business.
    """
    from llamafactory.data import mm_plugin
    from llamafactory.extras import constants

    from . import mm_plugin as ours

    if not hasattr(ours, "AdCopilotPlugin"):
        # A spawned worker unpickles the plugin before anything else: importing our module imports LlamaFactory, which
        # brought us here, and the class is not defined yet. The module calls back at its end.
        ours._register_when_defined = functools.partial(register, template)
        return

    if TEMPLATE not in mm_plugin.PLUGINS:
        mm_plugin.register_mm_plugin(TEMPLATE, ours.AdCopilotPlugin)

    if TEMPLATE not in template.TEMPLATES:
        stock = template.TEMPLATES["qwen2_vl"]
        plugin = mm_plugin.get_mm_plugin(
            TEMPLATE, image_token=stock.mm_plugin.image_token, video_token=stock.mm_plugin.video_token
        )
        # A copy of its own: LlamaFactory changes a template in place (default_system, tool_format).
        template.TEMPLATES[TEMPLATE] = dataclasses.replace(copy.deepcopy(stock), mm_plugin=plugin)

    wrap_once(template.Template, "fix_special_tokens", check_when_chosen)
    wrap_once(template.Template, "_encode", _escape_system_turn)

    constants.MROPE_MODELS.add(MODEL_TYPE)
    constants.register_model_group(
        models={name: {constants.DownloadSource.DEFAULT: path} for name, path in CHECKPOINTS.items()},
        template=TEMPLATE,
        multimodal=True,
    )


def _escape_system_turn(encode):
    # The mm plugin is shown messages alone: a data set's columns `system` and `tools`, and a chat's, meet it nowhere.
    def wrapped(self, tokenizer, messages, system, tools):
        if is_ours(self):
            system, tools = escape_system(system or self.default_system), escape_tools(tools or "")
        return encode(self, tokenizer, messages, system, tools)

    return wrapped
