"""BLEU, METEOR, ROUGE-L and CIDEr by pycocoevalcap, the code that change captioning is compared with.

Its tokenizer (Stanford's PTBTokenizer) and METEOR are Java programs that the package brings; Java itself is the
machine's. Without Java, METEOR is left out, with the reason in its place, and texts are cut into words by a rule of
this package, which the result says too: such numbers may differ in the last digits from published ones.
"""

from __future__ import annotations

import importlib.metadata
import io
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from typing import Any

from adcopilot.errors import UserError

__all__ = ["METRICS", "TOKENIZERS", "CaptionScores", "java_problem", "plain_words", "score_captions"]

#: Table V's columns.
METRICS = ("BLEU-4", "METEOR", "ROUGE-L", "CIDEr")
TOKENIZERS = ("auto", "ptb", "plain")


@dataclass(frozen=True, kw_only=True)
class CaptionScores:
    """Scores of a set of captions.

    Attributes:
        values: of `METRICS`, and BLEU-1 to BLEU-3: over the whole set, × 100; None where a metric was left out.
        each: metric → one score for each caption, × 100, in their order. (BLEU of the set is no mean of these.)
        skipped: metric → why it was left out.
        settings: tokenizer and versions.
    """

    values: dict[str, float | None]
    each: dict[str, list[float]]
    skipped: dict[str, str]
    settings: dict[str, Any]


def java_problem() -> str | None:
    """Why Java cannot be used; None if it can."""
    program = shutil.which("java")
    if program is None:
        return "Java is not installed (no `java` on the PATH)"
    try:
        done = subprocess.run([program, "-version"], capture_output=True, timeout=60, text=True, errors="replace")
    except (OSError, subprocess.SubprocessError) as error:
        return f"{program} does not run ({' '.join(str(error).split())})"
    if done.returncode:
        return f"{program} does not run ({' '.join((done.stderr or done.stdout).split())[:160]})"
    return None


def score_captions(
    answers: Sequence[str], references: Sequence[Sequence[str]], *, tokenizer: str = "auto"
) -> CaptionScores:
    """Score one caption for each pair of images against all its references.

    Args:
        answers: a model's captions; an empty one scores 0.
        references: for each answer, one or more texts.
        tokenizer: `ptb` (Java), `plain` (no Java), or `auto`: the first that runs here.

    Raises:
        UserError: `ptb` was asked for and does not run, or there are no captions.
        ModuleNotFoundError: pycocoevalcap is not installed.
    """
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.rouge.rouge import Rouge

    if not answers or not all(references):
        raise UserError("no captions to score, or a pair without a reference; run the model first")
    problem = java_problem()
    if tokenizer == "ptb" and problem:
        raise UserError(f"--tokenizer ptb: {problem}; install a Java runtime, or use --tokenizer plain")
    use_ptb = tokenizer == "ptb" or (tokenizer == "auto" and not problem)
    given, wanted = _tokenized(answers, references, ptb=use_ptb)

    each: dict[str, list[float]] = {}
    values: dict[str, float | None] = {}
    with redirect_stdout(io.StringIO()):  # BLEU prints its lengths
        totals, singles = Bleu(4).compute_score(wanted, given, verbose=0)
        for order in range(4):
            values[f"BLEU-{order + 1}"] = float(100 * totals[order])
            each[f"BLEU-{order + 1}"] = [100 * float(value) for value in singles[order]]
        for name, scorer in (("ROUGE-L", Rouge()), ("CIDEr", Cider())):
            total, singles = scorer.compute_score(wanted, given)
            values[name] = float(100 * total)
            each[name] = [100 * float(value) for value in singles]

    skipped: dict[str, str] = {}
    meteor = (problem, None) if problem else _meteor(given, wanted)
    if isinstance(meteor[0], str):
        values["METEOR"] = None
        skipped["METEOR"] = meteor[0]
    else:
        values["METEOR"], each["METEOR"] = meteor
    return CaptionScores(
        values={name: values[name] for name in (*METRICS, "BLEU-1", "BLEU-2", "BLEU-3")},
        each=each,
        skipped=skipped,
        settings={
            "tokenizer": "ptb" if use_ptb else "plain",
            "pycocoevalcap": importlib.metadata.version("pycocoevalcap"),
        },
    )


_WORD = re.compile(
    r"\w+(?=n't\b)|n't\b|'(?:s|re|ve|ll|d|m)\b"  # is n't, it 's, as the Penn Treebank has it
    r"|\w+(?:[-./&]\w+)*|[$%&+=<>@#*/|~^]",
)


def plain_words(text: str) -> str:
    """Words in small letters with spaces between, without punctuation: what PTBTokenizer makes of plain English."""
    return " ".join(_WORD.findall(text.lower().replace("’", "'")))


def _tokenized(
    answers: Sequence[str], references: Sequence[Sequence[str]], *, ptb: bool
) -> tuple[dict[int, list[str]], dict[int, list[str]]]:
    """(answers, references) as pycocoevalcap takes them: number → tokenized texts."""
    # The tokenizer reads a text a line, and several characters end a line.
    texts = [" ".join(text.split()) for group in (answers, *references) for text in group]
    words = iter(_ptb_words(texts) if ptb else [plain_words(text) for text in texts])
    given = {index: [next(words)] for index in range(len(answers))}
    wanted = {index: [next(words) for _ in group] for index, group in enumerate(references)}
    return given, wanted


def _ptb_words(texts: Sequence[str]) -> list[str]:
    from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

    # Without empty lines, whose number it may change.
    full = {index: [{"caption": text}] for index, text in enumerate(texts) if text}
    if not full:
        return list(texts)
    with _quiet_java() as said:
        try:
            words = PTBTokenizer().tokenize(full)
        except OSError as error:
            raise UserError(
                f"pycocoevalcap's tokenizer cannot be run ({error.strerror or error}: {error.filename}); it writes "
                "beside itself, so its folder must be writable: or use --tokenizer plain"
            ) from None
        reason = said()
    if len(words) != len(full):
        raise UserError(f"pycocoevalcap's tokenizer failed ({reason}); repair Java, or use --tokenizer plain")
    return [words[index][0] if index in words else "" for index in range(len(texts))]


def _meteor(
    given: Mapping[int, list[str]], wanted: Mapping[int, list[str]]
) -> tuple[float, list[float]] | tuple[str, None]:
    """(score of the set, of each), × 100, or why there is none."""
    from pycocoevalcap.meteor.meteor import Meteor

    with _quiet_java() as said:
        meteor = Meteor()
        try:
            total, singles = meteor.compute_score(wanted, given)
        except (OSError, ValueError) as error:
            # The process died; what it said is in its own pipe.
            meteor.meteor_p.kill()
            told = meteor.meteor_p.stderr.read().decode(errors="replace") or said() or str(error)
            if meteor.lock.locked():  # its destructor waits for it
                meteor.lock.release()
            return f"METEOR's Java program failed ({' '.join(told.split())[:200]})", None
    return float(100 * total), [100 * float(value) for value in singles]


@contextmanager
def _quiet_java() -> Iterator[Any]:
    """Keep the Java programs' chatter off the terminal, and make them write numbers with a point.

    Yields a function that says what was chattered.
    """
    language = os.environ.get("LC_ALL")
    os.environ["LC_ALL"] = "C.UTF-8"
    sys.stderr.flush()
    saved = os.dup(2)
    with tempfile.TemporaryFile() as sink:

        def said() -> str:
            sink.seek(0)
            return " ".join(sink.read().decode(errors="replace").split())[-200:]

        os.dup2(sink.fileno(), 2)
        try:
            yield said
        finally:
            os.dup2(saved, 2)
            os.close(saved)
            if language is None:
                del os.environ["LC_ALL"]
            else:
                os.environ["LC_ALL"] = language
