"""What a user gets, kept: while code moves, every file that it writes stays the same to the byte.

    outputs.py        makes them again: builds, indices, the sample set, runs and reports, help and error texts
    FILE.json         what they were: name → text where it is short, else size and SHA-256
    test_golden.py    compares

A wanted change: `make golden` writes the files again; look through their diff, and give its reason in the commit. With
two workers the same is made; after a kill -9 too, which `tests/chat_ad/pipeline/test_build_killed.py` and
`tests/evaluation/mmad/test_mmad_command.py` compare with an undisturbed run. Numbers of models are those of the pinned
environment, so newer ones do not compare them.
"""
