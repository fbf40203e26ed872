"""MMAD's own wording out of a copy of its repository; here a stand-in with sentences of our own."""

import ast
import json
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adcopilot.errors import UserError
from adcopilot.evaluation.benchmarks.mmad.dataset import MmadQuestion
from adcopilot.evaluation.benchmarks.mmad.protocol import commit_of, read_protocol
from adcopilot.evaluation.benchmarks.mmad.script_module import load
from adcopilot.evaluation.benchmarks.mmad.script_text import read_words

from .mini_mmad_repository import COMMIT, GPT4V, QWEN25, build

ROLE = "\nLook after our cups.\nOne letter will do.\n"


CUPS = "\nCups again.\n1. Answer: B.\nThe first 1 are good.The last is asked about\n"


OWN_QUESTION = MmadQuestion(
    index=2,
    text="Is {options} chipped?",
    options={"A": "Yes.", "B": "{question}"},
    answer="A",
    type="Anomaly Detection",
)


def words_of(checkout, *, shots=1, told=False, family="adcopilot", script=None):
    return read_protocol(checkout, family=family, shots=shots, told=told, script=script)[0]


def test_qwens_script_for_0_and_more_templates(checkout):
    words = words_of(checkout, shots=0)
    assert words.prefix() == (ROLE, "A letter, please! ", "The cup in question: ", "Picture 1: ", 0, "What we ask: ")
    words = words_of(checkout, shots=2, told=True)
    assert words.prefix() == (
        *(ROLE, "A letter, please! ", "Good cups, 2 of them.", "Picture 1: ", 0, "Picture 2: ", 1),
        *("The cup in question: ", "Picture 3: ", 2, "What we ask: "),
    )
    assert words.prefix("A cup is {text}.")[:4] == (
        *(ROLE, "A letter, please! ", "What we know of cups: \n A cup is {text}.", "Good cups, 2 of them."),
    )
    assert words.asked(OWN_QUESTION) == "Riddle 3: Is {options} chipped? \nA) Yes.\nB) {question}\n"


def test_which_file_and_which_commit(checkout):
    _, wording = read_protocol(checkout, family="adcopilot", shots=1, told=False)
    assert (wording.whose, wording.commit) == ("MMAD's wording", COMMIT)
    assert wording.file == "evaluation/examples/Transformers/qwen2_5_vl_query.py"
    assert "also there: evaluation/examples/GPT4/gpt4v.py, evaluation/examples/GPT4/gpt4o.py" in wording.notes[0]
    assert "the script sets add_question_id, which parse_conversation does not take" in wording.notes[1]
    assert wording.line(wording.describe()) == f"MMAD's wording ({wording.file}, commit {COMMIT[:12]})"
    assert json.loads(json.dumps(wording.describe()))["text"]["prefix"][0] == ROLE


@pytest.mark.parametrize(
    ("family", "script", "prefix", "question"),
    [
        ("internvl", None, (f"{ROLE}So many good cups: 1.\n ", 0, "\n\nThis cup: \n", 1, " \nSay which letter: \n"),
         "Riddle 3: Q \nA) Yes.\nB) No.\n\n"),
        ("gemini", None, (0, 1, CUPS),
         "Riddle: Q \nA. Yes.\nB. No.\n\n"),
        ("generic", "GPT4/gpt4o.py", (0, 1, CUPS),
         "Riddle: Q \nA. Yes.\nB. No.\n\n"),
        ("generic", "GPT4/gpt4v.py", (ROLE, "Here come 1 good cups.", 0, "The cup to look at: ", 1, "Our riddles: "),
         "Riddle 3: Q \nA) Yes.\nB) No.\n"),
        ("generic", "Transformers/minicpm_query.py",
         (0, 1, f"{ROLE}Cup 1 is good.\nThe last cup is asked about: \n"), "Riddle 3: Q \nA) Yes.\nB) No.\n\n"),
    ],
)  # fmt: skip
def test_the_scripts_of_other_families(checkout, family, script, prefix, question):
    words = words_of(checkout, family=family, script=script and f"evaluation/examples/{script}")
    assert words.prefix() == prefix
    one = MmadQuestion(index=2, text="Q", options={"A": "Yes.", "B": "No."}, answer="A", type="x")
    assert words.asked(one) == question


def test_earlier_questions_stand_as_the_script_puts_them(checkout):
    two = [
        MmadQuestion(index=index, text=f"Q{index}", options={"A": "a", "B": "b"}, answer="A", type="x")
        for index in (0, 1)
    ]
    assert words_of(checkout).asked(two[1], two[:1]) == "Riddle 1: Q0 \nA) a\nB) b\nRiddle 2: Q1 \nA) a\nB) b\n"
    assert words_of(checkout, family="internvl").asked(two[1], two[:1]) == (
        "Riddle 1: Q0 \nA) a\nB) b\n\nRiddle 2: Q1 \nA) a\nB) b\n\n"
    )


def test_the_first_layout_and_an_index_that_is_a_parameter(own, tmp_path):
    old = build(tmp_path / "old", folder="evaluation", git=False)
    assert words_of(old).prefix() == words_of(own).prefix()
    assert commit_of(old) == ""
    script = own / "evaluation/examples/GPT4/gpt4v.py"
    taken = ("parse_conversation(self, text_gt):", "parse_conversation(self, text_gt, add_question_id=True):")
    numbered = """if add_question_id:
                        questions_text = f"No. {i + 1}: {questions_text}"
                    Question.append("""
    changed = GPT4V.replace(*taken).replace("Question.append(", numbered)
    script.write_text(changed.replace('f"Riddle {i + 1}: {questions_text} ', 'f"{questions_text} '))
    assert words_of(own).question == "{question} \n{options}"  # Qwen's script says add_question_id=False
    assert words_of(own, script="evaluation/examples/GPT4/gpt4v.py").question == "No. {number}: {question} \n{options}"


WRITES = """                    for new_key, (original_key, value) in enumerate(options_items):
                        options_text += f"{chr(65 + new_key)}) {value}\\n"
                        if QA['Answer'] == original_key:
                            new_answer_key = chr(65 + new_key)
"""


@pytest.mark.parametrize(
    ("writes", "option", "between"),
    [
        ("""options_text = ", ".join(f"({letter}) {text}" for letter, text in options_items)""",
         "({letter}) {option}", ", "),
        ("""options_text = "".join("- " + value + "; " for key, value in options_items)""", "- {option}; ", ""),
        ("""for place, (key, value) in enumerate(options_items, start=65):
                        options_text += f"[{chr(place)}] {value} "
                        continue""", "[{letter}] {option} ", ""),
        ("""for place, (key, value) in enumerate(options_items):
                        options_text += "{0}) {words}; ".format(key, words=value)""", "{letter}) {option}; ", ""),
        ("""for place, (key, value) in enumerate(options_items):
                        if value is not None and key != "Z":
                            options_text += f"{key}: {value} / " if not self.CoT or not key else value""",
         "{letter}: {option} / ", ""),
    ],
)  # fmt: skip
def test_options_in_other_forms(own, writes, option, between):
    assert WRITES in GPT4V
    script = own / "evaluation/examples/GPT4/gpt4v.py"
    script.write_text(GPT4V.replace(WRITES, f"                    {writes}\n"))
    words = words_of(own, script="evaluation/examples/GPT4/gpt4v.py")
    assert (words.question, words.option, words.option_separator) == (
        "Riddle {number}: {question} \n{options}", option, between)  # fmt: skip


def test_nothing_of_the_checkout_runs(checkout):
    compile(GPT4V, "gpt4v.py", "exec")
    with pytest.raises((SystemExit, ImportError)):
        exec(compile(ast.parse(GPT4V), "gpt4v.py", "exec"), {})
    assert words_of(checkout).prefix()


def refused(checkout, **options):
    with pytest.raises(UserError) as raised:
        words_of(checkout, **options)
    assert "\n" not in str(raised.value)
    return str(raised.value)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("instruction = ", "advice = ", "is not known here (set at the top of the file: advice, api)"),
        ("{len(self.few_shot)} good", "{self.name} good", "'self.name' stands in the text and is not known here"),
        ("{len(self.few_shot)} good", "{len(self.few_shot):03} good", "stands in the text and is not known"),
        ("{len(self.few_shot)} good", "{os.environ['KEY']} good", "is not known here"),
        ("good cups.", "good cups {{text}}.", "has '{text}' in its text, which is filled in here"),
        ("if self.few_shot:", "if self.mood:", "depends on self.mood, which is not known here"),
        (
            "incontext = []\n",
            "incontext = []\n        while True:\n            pass\n",
            "a while statement is more than text",
        ),
        ("for ref_image_path in self.few_shot:", "for ref_image_path in self.others:", "goes through self.others"),
        ("] + conversation}", "]}", "the question does not stand in the text once"),
        ("return payload", "return later(payload)", "'later' is part of the prompt"),
        ("def get_query", "def make_query", "has no method get_query"),
        ("def parse_conversation", "def read_conversation", "has no method parse_conversation"),
        ("# random.shuffle", "random.shuffle", "shuffles the options"),
        ("{questions_text} \\n", "{mystery} \\n", "'mystery' stands in the text and is not known here"),
        ("{chr(65 + new_key)})", "{new_key})", "the options do not have the same form"),
        ("{chr(65 + new_key)})", "{self.letter})", "'self.letter' stands in the text and is not known here"),
        ('f"{options_text}"', '"Well?"', "does not hold the question and its options once each"),
        ('"role": "system", "content"', '"role": "system", "sound"', "a message has role, sound, expected a text"),
        (
            "instruction = ",
            "instruction = other\nother = instruction\nadvice = ",
            "'instruction' stands|is part of the prompt",
        ),
        ("self.get_query", "(", "gpt4v.py: not Python in line"),
    ],
)
def test_what_is_not_known_is_refused_and_named(own, old, new, message):
    script = own / "evaluation/examples/GPT4/gpt4v.py"
    assert old in GPT4V
    script.write_text(GPT4V.replace(old, new))
    text = refused(own, script="evaluation/examples/GPT4/gpt4v.py")
    assert any(part in text for part in message.split("|")), text
    assert "gpt4v.py" in text
    if "checkout out again" not in text:
        assert "--protocol-file" in text


def test_what_is_no_checkout(own, tmp_path):
    assert "no such folder; expected a copy of MMAD's repository" in refused(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    assert "has no folder evaluation" in refused(tmp_path / "empty")
    assert f"did you mean {own.resolve()}?" in refused(own / "evaluation/examples/GPT4")
    (tmp_path / "empty/evaluation").mkdir()
    assert "has none of the scripts" in refused(tmp_path / "empty")
    listed = refused(own, script="evaluation/examples/none.py")
    assert "--protocol-file evaluation/examples/none.py: no such file below" in listed
    assert "there are: evaluation/examples/Transformers/qwen2_5_vl_query.py" in listed
    assert "no such file" in refused(own, script="../outside.py")
    assert "no such file" in refused(own, script=str(tmp_path / "empty"))
    assert "tells no domain knowledge" in refused(own, told=True, script="evaluation/examples/GPT4/gpt4o.py")


def test_files_that_cannot_be_read(own, tmp_path):
    script = own / "evaluation/examples/Transformers/qwen2_5_vl_query.py"
    script.write_bytes(QWEN25.encode() + b"# caf\xe9\n")
    assert "not UTF-8" in refused(own)
    script.write_bytes(b"x = 1\n" * 400_000)
    assert "larger than 1048576 bytes" in refused(own)
    script.write_bytes(b"\0")
    assert "not Python" in refused(own)
    script.write_text("(" * 5000)
    assert "not Python" in refused(own)
    script.write_text(QWEN25.replace('f"A letter, please! "', "+".join(['"a"'] * 3000)))
    assert "qwen2_5_vl_query.py" in refused(own)
    (tmp_path / "outside.py").write_text(QWEN25)
    script.unlink()
    script.symlink_to(tmp_path / "outside.py")
    assert "is a link that leads out of" in refused(own)
    script.unlink()
    (own / "evaluation/examples/Transformers/real.py").write_text(QWEN25)
    script.symlink_to("real.py")  # a link inside is fine
    assert words_of(own).prefix()
    if hasattr(os, "mkfifo"):
        script.unlink()
        os.mkfifo(script)
        assert words_of(own).prefix()[1] == "Here come 1 good cups."  # no file: another script is taken, nothing waits


def test_a_text_that_doubles_is_bounded(own):
    script = own / "evaluation/examples/GPT4/gpt4v.py"
    doubling = "        more = 'long '\n" + "        more = more + more\n" * 60
    script.write_text(GPT4V.replace("        incontext = []\n", f"        incontext = []\n{doubling}"))
    assert "makes a text that is too long" in refused(own, script="evaluation/examples/GPT4/gpt4v.py")


def test_commits(tmp_path):
    git = tmp_path / ".git"
    assert commit_of(tmp_path) == ""
    git.mkdir()
    (git / "HEAD").write_text(COMMIT)
    assert commit_of(tmp_path) == COMMIT
    (git / "HEAD").write_text("ref: refs/heads/main\n")
    assert commit_of(tmp_path) == ""  # no commit yet
    (git / "packed-refs").write_text(
        f"# pack-refs\n{'f' * 40} refs/heads/mainline\n{COMMIT} refs/heads/main\n^{'e' * 40}\n"
    )
    assert commit_of(tmp_path) == COMMIT
    (git / "refs/heads").mkdir(parents=True)
    (git / "refs/heads/main").write_text("a" * 40 + "\n")
    assert commit_of(tmp_path) == "a" * 40  # a loose reference is newer than a packed one
    (git / "refs/heads/main").write_text("no commit\n")
    assert commit_of(tmp_path) == COMMIT
    for head in ("ref: ../../etc/passwd", "ref: refs/../HEAD", "", "\xff", "z" * 40):
        (git / "HEAD").write_text(head, encoding="latin-1")
        assert commit_of(tmp_path) == ""
    tree = tmp_path / "tree"
    (git / "worktrees/tree").mkdir(parents=True)
    (git / "worktrees/tree/HEAD").write_text("ref: refs/heads/main")
    (git / "worktrees/tree/commondir").write_text("../..")
    tree.mkdir()
    (tree / ".git").write_text(f"gitdir: {git / 'worktrees/tree'}\n")
    assert commit_of(tree) == COMMIT


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_any_script_gives_words_or_one_line(tmp_path_factory, data):
    """Lines of a script dropped, doubled or exchanged, and characters too."""
    lines = GPT4V.splitlines()
    for _ in range(data.draw(st.integers(1, 4))):
        first, second = (data.draw(st.integers(0, len(lines) - 1)) for _ in "ab")
        kind = data.draw(st.sampled_from(["drop", "swap", "double", "cut", "put"]))
        if kind == "swap":
            lines[first], lines[second] = lines[second], lines[first]
        elif kind == "double":
            lines.insert(second, lines[first])
        elif kind == "cut":
            lines[first] = lines[first][: data.draw(st.integers(0, 30))]
        elif kind == "put":
            lines[first] += data.draw(st.text(max_size=8))
        elif len(lines) > 2:
            del lines[first]
    folder = tmp_path_factory.mktemp("any") / "GPT4"
    folder.mkdir()
    path = folder / "gpt4v.py"
    path.write_text("\n".join(lines), encoding="utf-8", errors="surrogatepass")
    try:
        words, _ = read_words(load(path, folder=folder.parent, root=folder.parent), shots=1)
    except UserError as error:
        words, said = None, str(error)
    if words is None:
        assert "\n" not in said
        return
    assert [part for part in words.untold if isinstance(part, int)] == [0, 1]
    assert words.question.count("{question}") == 1
