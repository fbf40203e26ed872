"""Where a query differs from its templates: an anomaly map, without training and without words.

    registration   lay a template over the query: angle, scale, shift
    pixels         patch differences after registration
    texture        patches that no template has anywhere
    features       differences of a vision backbone's patch features, or of the model's own tower
    comparing      pictures in, an `AnomalyMap` out
    marking        from a map to a score, a mask and boxes
    hints          its boxes in a model's question

The words are anomalib's: `anomaly_map`, `pred_score`, `pred_mask`.
"""

#: What can be compared; here, where the command line asks without torch.
MAP_KINDS = ("pixels", "features", "texture")
#: Good pictures that a line keeps as templates at most; a map of a texture is made with all of them.
MOST_TEMPLATES = 32
