"""Public sets of pairs whose changes people have described, as laid out by their authors; to train and to test on."""
