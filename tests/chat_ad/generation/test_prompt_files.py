"""Prompts and wording, the package's own and a user's."""

import json
import re

import pytest

from adcopilot.chat_ad.generation.prompt_files import PromptFiles
from adcopilot.errors import UserError

from .conftest import make_normal
from .test_annotations import PROMPTS, run


def test_prompts_of_a_user(tmp_path):
    wording = json.loads((PromptFiles.__module__ and PROMPTS._paths["wording.json"]).read_text("utf-8"))
    wording["no_difference"] = ["Nothing differs: no defect."]
    (tmp_path / "wording.json").write_text(json.dumps(wording))
    own = PromptFiles(folder=tmp_path)
    mine, _ = run([make_normal()], ["caption"], prompts=own)
    theirs, _ = run([make_normal()], ["caption"])
    assert json.loads(mine[0]["answer"])["defect_description"] == "Nothing differs: no defect."
    assert mine[0]["prompt_hash"] != theirs[0]["prompt_hash"]
    assert own.digest("questions.json") == PROMPTS.digest("questions.json")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("wordings.json", "{}", "wordings.json: not a file of prompts, expected questions.json"),
        ("wording.json", "{", "wording.json: not JSON"),
        ("wording.json", "[]", "wording.json: a list, expected a JSON object"),
        ("wording.json", '{"yes": ["x"]}', "has no 'action', which the package's own has"),
        ("caption.jinja", "{{ nothing }", "caption.jinja: not a Jinja template"),
        ("caption.jinja", b"\xff\xfe", "cannot be read as UTF-8"),
    ],
)
def test_prompts_that_are_wrong(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError, match=re.escape(message)):
        PromptFiles(folder=tmp_path)


@pytest.mark.parametrize(
    ("sentences", "message"),
    [
        (["It is {nice}."], r"'no_difference' uses \{nice\}, expected no slot"),
        ([], "expected a list of sentences"),
        ([3], "holds something that is no sentence"),
    ],
)
def test_wording_that_is_wrong(tmp_path, sentences, message):
    wording = dict(PROMPTS.data("wording.json"), no_difference=sentences)
    (tmp_path / "wording.json").write_text(json.dumps(wording))
    with pytest.raises(UserError, match=message):
        PromptFiles(folder=tmp_path)


@pytest.mark.parametrize(
    ("prompt", "why"), [("{{ ''.__class__.__mro__ }}", ""), ("{{ subjet }}", r" \('subjet' is undefined\)")]
)
def test_a_prompt_cannot_reach_python_and_a_misspelt_variable_is_named(tmp_path, prompt, why):
    (tmp_path / "system.jinja").write_text(prompt)
    with pytest.raises(UserError, match=rf"system.jinja: cannot be filled{why}"):
        PromptFiles(folder=tmp_path).render("system.jinja", {"subject": "nut"})
