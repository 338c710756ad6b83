"""Pretrained backbones: the catalog, their loading, their stages and their preprocessing."""

HEAD = "head"  # the stage of all weights outside the stages of the backbone
