"""What the tests of hostile directories share: a preset to spoil, and proof that nothing ran."""

import json
import os

import keras_hub
import pytest

from finetune.backbones.loading import load
from finetune.errors import ConfigError
from tests.helpers import checkpoints


def edit(file, change):
    """Rewrites a JSON file by a function of its content."""
    content = json.loads(file.read_text())
    file.write_text(json.dumps(change(content) or content))


def assert_refused(directory, match, **options):
    with pytest.raises(ConfigError, match=match):
        load(path=directory, **options)


class Marks:
    """Makes a directory when it is unpickled."""

    def __reduce__(self):
        return os.mkdir, ("MARK",)


def bert(tmp_path):
    directory = tmp_path / "bert"
    keras_hub.models.BertBackbone(12, 1, 2, 8, 8).save_to_preset(str(directory))
    keras_hub.models.BertTokenizer(vocabulary=checkpoints.WORDS).save_to_preset(str(directory))
    return directory
