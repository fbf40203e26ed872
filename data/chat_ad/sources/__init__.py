"""What raw sets hold: kinds of parts, masks and their counts, references, COCO files, products."""
