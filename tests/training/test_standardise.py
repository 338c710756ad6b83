"""A head in standardised coordinates is the same head, and its gradients are its own."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from finetune.features.cut import LinearHead
from finetune.training.exact import fit_exact_head
from finetune.training.optimizers import slots_of
from finetune.training.standardise import StandardisedHead, Statistics, statistics_of

RANDOM = np.random.default_rng(0)
FEATURES = (RANDOM.normal(size=(50, 4)) * [1, 10, 0.1, 0] + [5, -3, 0.2, 7]).astype("float32")
LABELS = RANDOM.integers(0, 3, 50)


def make_head(optimizer):
    inputs = keras.Input((4,))
    dense = keras.layers.Dense(3, bias_initializer="glorot_uniform")
    first = keras.layers.Dropout(0.0)
    model = keras.Model(inputs, dense(first(inputs)))
    optimizer.build([dense.kernel, dense.bias])
    return model, LinearHead(first, dense)


def head_slots(optimizer, head):
    weights = dict(zip(("kernel", "bias"), head.weights, strict=True))
    return slots_of(optimizer, weights).values()


def gradients(model, dense):
    with tf.GradientTape() as tape:
        losses = keras.losses.sparse_categorical_crossentropy(LABELS, model(FEATURES), True)
        loss = tf.reduce_mean(losses)
    kernel, bias = tape.gradient(loss, [dense.kernel.value, dense.bias.value])
    return kernel.numpy(), bias.numpy()


def test_statistics_of_batches_are_those_of_the_whole():
    statistics = statistics_of(np.array_split(FEATURES, 7))
    whole = FEATURES.astype(np.float64)
    np.testing.assert_allclose(statistics.mean, whole.mean(0), rtol=1e-12)
    np.testing.assert_allclose(statistics.scale[:3], whole.std(0)[:3], rtol=1e-12)
    assert statistics.scale[3] == 1.0  # a constant feature is only shifted


def test_the_head_gives_the_same_logits_before_during_and_after():
    optimizer = keras.optimizers.AdamW()
    model, head = make_head(optimizer)
    before = model(FEATURES).numpy()
    kernel = head.dense.kernel.numpy()
    standardised = StandardisedHead(head)
    standardised.enter(statistics_of([FEATURES]), *head_slots(optimizer, head))
    np.testing.assert_allclose(model(FEATURES).numpy(), before, atol=1e-4)
    assert not np.allclose(head.dense.kernel.numpy(), kernel)
    standardised.fold()
    np.testing.assert_allclose(head.dense.kernel.numpy(), kernel, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(model(FEATURES).numpy(), before, atol=1e-4)


def test_first_moments_change_as_gradients_do():
    optimizer = keras.optimizers.SGD(0.1, momentum=0.9)
    model, head = make_head(optimizer)
    plain = gradients(model, head.dense)
    slots = optimizer.momentums
    for slot, gradient in zip(slots, plain, strict=True):
        slot.assign(gradient)
    standardised = StandardisedHead(head)
    standardised.enter(statistics_of([FEATURES]), *head_slots(optimizer, head))
    for slot, gradient in zip(slots, gradients(model, head.dense), strict=True):
        np.testing.assert_allclose(slot.numpy(), gradient, rtol=1e-3, atol=1e-5)
    standardised.fold()
    for slot, gradient in zip(slots, plain, strict=True):
        np.testing.assert_allclose(slot.numpy(), gradient, rtol=1e-3, atol=1e-4)


def test_what_was_compiled_inside_evaluates_the_plain_head_afterwards():
    optimizer = keras.optimizers.Adam()
    model, head = make_head(optimizer)
    before = model(FEATURES).numpy()
    standardised = StandardisedHead(head)
    standardised.enter(statistics_of([FEATURES]), *head_slots(optimizer, head))
    compiled = tf.function(model)
    np.testing.assert_allclose(compiled(FEATURES), before, atol=1e-4)
    standardised.fold()
    np.testing.assert_allclose(compiled(FEATURES), model(FEATURES), atol=1e-6)


def test_second_moments_come_back_where_nothing_trained_between():
    optimizer = keras.optimizers.Adam()
    model, head = make_head(optimizer)
    standardised = StandardisedHead(head)
    statistics = statistics_of([FEATURES])
    standardised.enter(statistics, *head_slots(optimizer, head))
    squares = [gradient**2 for gradient in gradients(model, head.dense)]
    for slot, value in zip(optimizer._velocities, squares, strict=True):
        slot.assign(value)
    standardised.fold()
    assert np.any(optimizer._velocities[0].numpy() != squares[0])
    standardised.enter(statistics, *head_slots(optimizer, head))
    np.testing.assert_array_equal(optimizer._velocities[0].numpy(), squares[0])


def test_a_feature_that_is_constant_but_for_rounding_is_only_shifted():
    rows = np.full((30, 2), 1000.0, np.float32)
    rows[:, 0] += np.random.default_rng(0).choice([0, 6e-5], 30)
    rows[:, 1] = np.arange(30)
    assert statistics_of([rows]).scale[0] == 1.0


def test_second_moments_stay_bounds():
    optimizer = keras.optimizers.Adam()
    model, head = make_head(optimizer)
    for slot, gradient in zip(optimizer._velocities, gradients(model, head.dense), strict=True):
        slot.assign(gradient**2)
    standardised = StandardisedHead(head)
    standardised.enter(statistics_of([FEATURES]), *head_slots(optimizer, head))
    for slot, gradient in zip(optimizer._velocities, gradients(model, head.dense), strict=True):
        assert np.all(slot.numpy() >= gradient**2 * 0.999 - 1e-9)


@pytest.mark.parametrize("num_classes", [3, 4])
def test_the_exact_head_is_where_the_loss_has_its_minimum(num_classes):
    # Unstandardised, penalised with the chosen strength: no direction goes down from there.
    statistics = Statistics(FEATURES.mean(0).astype(np.float64), np.ones(4))
    head = fit_exact_head(
        FEATURES.astype(np.float64), LABELS, FEATURES.astype(np.float64), LABELS,
        num_classes=num_classes, statistics=statistics,
    )  # fmt: skip

    def objective(kernel, bias):
        logits = FEATURES @ kernel + bias
        losses = np.log(np.exp(logits).sum(1)) - logits[np.arange(50), LABELS]
        return losses.sum() + (kernel**2).sum() / (2 * head.strength)

    least = objective(head.kernel, head.bias)
    for _ in range(30):
        kernel, bias = head.kernel.copy(), head.bias.copy()
        kernel[:, :3] += (step := RANDOM.normal(size=(4, 3)) * 0.05)
        bias[:3] += RANDOM.normal(size=3) * 0.05 - statistics.mean @ step
        assert objective(kernel, bias) > least - 1e-3
    if num_classes == 4:  # a class without a sample is never chosen
        assert not (np.argmax(FEATURES @ head.kernel + head.bias, 1) == 3).any()


def test_a_row_of_weight_two_counts_as_two_rows_in_the_exact_head():
    features, statistics = FEATURES.astype(np.float64), statistics_of([FEATURES])
    weights = 1.0 + (LABELS == 1)
    twice = np.repeat(np.arange(50), weights.astype(int))
    shared = {"num_classes": 3, "statistics": statistics}
    weighted = fit_exact_head(features, LABELS, features, LABELS, weights=weights, **shared)
    repeated = fit_exact_head(features[twice], LABELS[twice], features, LABELS, **shared)
    assert weighted.strength == repeated.strength
    np.testing.assert_allclose(weighted.kernel, repeated.kernel, rtol=0.02, atol=0.02)
    plain = fit_exact_head(features, LABELS, features, LABELS, **shared)
    assert np.abs(plain.bias - weighted.bias).max() > 0.1
