"""Pretrained networks: what is bundled, how they load, their stages and their heads."""
