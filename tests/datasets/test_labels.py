"""Class names to indices, and the rows that an error names."""

import doctest

import pytest

from finetune.datasets import labels
from finetune.errors import ConfigError


def test_its_example():
    assert doctest.testmod(labels) == (0, 1)


def test_twenty_are_listed_and_all_are_counted():
    assert labels.listed(range(21)) == f"{', '.join(map(str, range(20)))}, … (21 in all)"


def test_names_become_indices():
    assert labels.indices("here", ["b", "a"], ["a", "b"]).tolist() == [1, 0]
    assert labels.multi_hot("here", [["b"], []], ["a", "b"]).tolist() == [[0, 1], [0, 0]]


def test_each_unknown_name_is_named_with_its_rows():
    with pytest.raises(ConfigError) as caught:
        labels.indices("here", ["a", "cat", "dgo", "cat"], ["a", "dog"])
    assert len(caught.value.problems) == 2
    assert "here (rows 2, 4 (2 in all)) must be a class of train. Received: cat" in str(
        caught.value
    )
    assert "Received: dgo. Valid: a, dog. Did you mean dog?" in str(caught.value)
