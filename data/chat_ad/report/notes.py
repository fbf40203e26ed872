"""What of a report somebody should look at before training, in a sentence each."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ...pages.text import plural, shorten
from .charts import uneven
from .tally import LETTERS

if TYPE_CHECKING:
    from .report import Found

__all__ = ["Note", "make_notes"]

# Fewer answers than this may all be alike by chance.
_ENOUGH = 20


class Note(NamedTuple):
    """A sentence; whether it says that all is well; and the section of the page that says more."""

    text: str
    good: bool
    section: str


def make_notes(found: Found) -> list[Note]:
    """The notes, what is wrong first."""
    losses = [Note(shorten(f"{loss.line}.", 400), False, "dropped") for loss in found.losses]
    notes = [*losses, *_records(found), *_answers(found), *_left_out(found)]
    return sorted(notes, key=lambda note: note.good)


def _records(found: Found) -> list[Note]:
    tally, notes = found.tally, []
    if found.faults.total:
        faults = plural(found.faults.total, "line or file", "lines or files")
        notes.append(Note(f"{faults} could not be used.", False, "faults"))
    if repeated := sum(tally.repeated().values()):
        records = plural(repeated, "record")
        verb = "repeats" if repeated == 1 else "repeat"
        notes.append(Note(f"{records} {verb} an earlier one word for word, with the same images.", False, "counts"))
    else:
        notes.append(Note("No record repeats another.", True, "counts"))
    for name, group in tally.merged(by=0).items():
        if group.labels["normal"] + group.labels["anomalous"] >= _ENOUGH:
            for label, other in (("normal", "anomalous"), ("anomalous", "normal")):
                if not group.labels[label]:
                    notes.append(Note(f"{name}: all records are {other}, none is {label}.", False, "counts"))
    if found.gallery.missing:
        images = plural(found.gallery.missing, "image")
        notes.append(Note(f"{images} of the records shown below cannot be opened.", False, "gallery"))
    if found.gallery.left_out:
        images = plural(found.gallery.left_out, "image")
        notes.append(
            Note(f"{images} of the records shown below had no room in the page (--max-mib).", False, "gallery")
        )
    if boxes := sum(card.faulty for card in found.cards):
        notes.append(Note(f"Boxes in the gallery that do not lie in their image: {boxes}.", False, "gallery"))
    return notes


def _answers(found: Found) -> list[Note]:
    notes = []
    letters = even = 0
    for (dataset, task), group in sorted(found.tally.groups.items()):
        where = f"{dataset}, {task}"
        if group.yes_no.total() >= _ENOUGH and len(group.yes_no) == 1:
            notes.append(Note(f"{where}: every answer is “{next(iter(group.yes_no))}”.", False, "answers"))
        if group.letters:
            letters += 1
            even += not uneven(group.letters)
        if uneven(group.letters):
            total = group.letters.total()
            shares = ", ".join(f"{letter} {group.letters[letter] / total:.0%}" for letter in LETTERS)
            notes.append(Note(f"{where}: the letters are uneven ({shares}).", False, "answers"))
    if letters and letters == even:
        notes.append(Note("The letters of right answers differ by no more than chance.", True, "answers"))
    return notes


def _left_out(found: Found) -> list[Note]:
    notes = []
    for leaks in found.leaks:
        if leaks.leaking:
            verb = "is" if leaks.leaking == 1 else "are"
            text = f"{plural(leaks.leaking, 'image')} of {leaks.images:,} {verb} in an evaluation set too."
            notes.append(Note(text, False, "leaks"))
        else:
            notes.append(Note(f"None of {plural(leaks.images, 'image')} is in an evaluation set.", True, "leaks"))
    return notes
