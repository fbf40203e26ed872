"""Training text about pairs: captions, dialogues, multiple choice, localisation, thinking.

`produce.generate_records` turns a shard of `PairView`s into records. The text comes from a generator: an
OpenAI-style endpoint (`endpoint.EndpointGenerator`) or the annotations alone (`annotations.AnnotationsGenerator`);
either is checked against the annotation before it becomes a record.
"""

from ...endpoint.client import Refused
from .annotations import AnnotationsGenerator
from .generator import Generator
from .pair_view import PairView
from .produce import TASKS, generate_records
from .prompt_files import PromptFiles

__all__ = ["TASKS", "AnnotationsGenerator", "Generator", "PairView", "PromptFiles", "Refused", "generate_records"]
