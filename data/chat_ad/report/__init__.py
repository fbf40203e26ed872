"""`adcopilot data report`: one HTML page about a folder of training records, to be looked at before training on it.

`scan` finds the files and reads their lines, `tally` counts, `sampling` chooses the records that are shown, `findings`
reads what other steps left beside them (drops, problems, leaks, manifests), `gallery` prepares the chosen records,
`report` puts the page together. Memory grows by sixteen bytes a record; images are opened for the gallery alone.

Everything in the folder is untrusted: it reaches the page as escaped text, as numbers, or as pictures that were
decoded and encoded again. The page's Content-Security-Policy allows its own style and script by their hashes, pictures
inside the page, and nothing else.
"""
