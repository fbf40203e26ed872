"""What a user gets from every command, held to the byte while files move and duplicated ideas become one.

`tests/golden/*.json` hold, one file an area, every output by name: short texts in full, of other files SHA-256 and
size, of what a model computes the numbers with a tolerance. `test_*.py` make the outputs again and compare. They use
the command line alone, so that no step that moves a module has to touch them.

    python -m tests.golden [AREA …]     compare (`make test` does so too)
    make golden [AREAS="eval build"]    write them anew: python -m tests.golden --write [AREA …]

A wanted change: write the area anew, read `git diff tests/golden` line by line, and give the reason for each kind of
line in the commit's message. A difference that nobody wanted is a defect of the step, not of the golden. After a run
that passed, its texts are kept in `.pytest_cache/golden`; a later failure shows a diff against them even where the
golden is only a digest, so run the harness once before a step begins.

What varies by nature is taken out in `normal.py`, each rule with its reason. The goldens are those of the training
environment (constraints/train.txt) on x86-64: with other versions of Pillow, pyarrow or torch other bytes are right,
so these tests carry neither of the marks by which the newer environments choose theirs. Not covered: pages as a
browser shows them, stderr (progress and warnings), DeepSpeed, vLLM, Ray, llamafactory-cli.
"""
