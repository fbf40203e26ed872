"""From a recipe to files: shards of each step, on workers or Ray, resumed from what is there."""
