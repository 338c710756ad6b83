"""What is set for the whole process, and given back."""

import keras
import pytest

from finetune.training.device import prepare, state_kept


@pytest.mark.parametrize("precision", ["float32", None])
def test_keras_json_decides_nothing_where_the_config_does(precision, caplog):
    keras.config.set_image_data_format("channels_first")
    keras.config.set_floatx("float16")
    try:
        with state_kept():
            prepare("cpu", precision, True, 0, clear=False)
            own = precision is None  # a model of the user's, in the user's process
            assert keras.config.image_data_format() == (
                "channels_first" if own else "channels_last"
            )
            assert keras.config.floatx() == ("float16" if own else "float32")
        assert ("image_data_format=channels_first" in caplog.text) is not own
        assert keras.config.image_data_format() == "channels_first"
        assert keras.config.floatx() == "float16"
    finally:
        keras.config.set_image_data_format("channels_last")
        keras.config.set_floatx("float32")
