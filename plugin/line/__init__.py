"""A line: what inspecting one kind of part needs besides a model, and how it is found.

inspection   `inspection.json`: threshold, templates, map, and how good all that is
thresholds   a threshold from good pictures alone, or from labelled ones; rates with intervals
measures     how well scores rank, what a threshold gets right, by kind of defect
calibrate    `adcopilot calibrate`
marks        what somebody said of verdicts that were wrong
report       the page that a shift lead reads
"""
