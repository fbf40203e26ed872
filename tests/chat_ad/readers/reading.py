"""A reader's rows and problems, for its tests."""

from collections import Counter
from types import SimpleNamespace

from adcopilot.chat_ad.readers import index


def read(dataset, root, **options):
    """Rows and problems of a dataset."""
    problems = []
    entries = list(index(dataset, root, options=options, problems=problems))
    return SimpleNamespace(
        entries=entries,
        problems=problems,
        blocking=[problem for problem in problems if problem.blocking],
        counts=Counter((entry.split, entry.label) for entry in entries),
        anomalous=[entry for entry in entries if entry.label == "anomalous"],
    )


def one(entries, ending):
    """The only row whose image ends so."""
    found = [entry for entry in entries if entry.image.endswith(ending)]
    assert len(found) == 1, [entry.image for entry in entries]
    return found[0]
