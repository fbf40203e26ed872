"""AD-Copilot inside the stock LlamaFactory: nothing here is imported before LlamaFactory itself is.

How it gets there: `hook.py`. What it registers: `template.py` (template, mm plugin, model group), `mm_plugin.py`,
`composite.py` (what the freeze flags mean), `loader.py` (auto classes, liger, export), `matching.py` (model,
processor and template fit one another), `data_checks.py`, `sample_check.py`, `settings_checks.py`,
`tokenized_folder.py`, `few_steps.py` and `preflight.py` (what cannot be trained on, or teaches nothing, is said before
training starts), `server_engine.py` (chat with a server), `api.py` (requests with mistakes), `webui/` (LlamaBoard;
chat pages with a slot for templates).
"""


def register() -> None:
    """Register everything now; calling it again does nothing.

    For programs that drive LlamaFactory from Python, and for forks that load the entry-point group
    `llamafactory.plugins` (see `patches/`). The stock LlamaFactory needs no call: the hook does this. LlamaFactory's
    chat and its pages are reached when they are imported, so they must not have been before this. With
    `ADCOPILOT_PLUGIN=0` in the environment nothing is registered.

    Raises:
        UserError: LlamaFactory is of a version that this package does not know.
    """
    from . import hook

    if hook.is_switched_on():
        hook.register_now()
