"""Pretrained networks: what is bundled, how they load, their stages and their heads."""

HEAD = "head"  # the stage of every weight that is in no stage of the backbone
