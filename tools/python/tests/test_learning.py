"""Learning: the command line's bytes, whole and piece by piece; scikit-learn's interface."""

import numpy as np
import offshoot
import pytest
from offshoot import errors

EPOCHS = 2


@pytest.fixture(scope="module")
def shifted(vibration):
    v = vibration
    return (v.shifted_train_x, v.shifted_train_y), (v.shifted_test_x, v.shifted_test_y)


def test_learning_gives_the_command_lines_bytes(learner, shifted, vibration, command, tmp_path):
    off, learned, alone = tmp_path / "m.off", tmp_path / "learned.off", tmp_path / "alone.off"
    learner.save(off)
    paths = [vibration.path(f"shifted_{part}_{xy}") for part in ("train", "test") for xy in "xy"]
    said = command(
        *("learn", off, "--train", *paths[:2], "--test", *paths[2:], "--epochs", EPOCHS, "--fit"),
        *("-o", learned, "--inference", alone, "--export", tmp_path / "state.npz"),
    )
    (x, y), test = shifted
    taught = learner.learn(x, y, test=test, epochs=EPOCHS, fit=True)
    assert taught.to_bytes() == learned.read_bytes()
    assert taught.inference_only().to_bytes() == alone.read_bytes()
    for name, array in np.load(tmp_path / "state.npz").items():
        np.testing.assert_array_equal(taught.learned()[name], array)
    assert taught.report["digest"] == said["digest"]
    assert taught.report["accuracy_after"] == said["accuracy_after"] > said["accuracy_before"]
    assert taught.eval(*test)["value"] == pytest.approx(said["accuracy_after"])
    # The model itself is as it was.
    assert learner.to_bytes() == off.read_bytes() and not learner.has_learned
    assert offshoot.open(learned).learned().keys() == taught.learned().keys()


def test_what_was_learned_is_saved_and_restored(learner, shifted, tmp_path):
    (x, y), _ = shifted
    flash = tmp_path / "m.flash"
    whole = learner.learn(x, y, course=len(x), epochs=1)
    half = len(x) // 2
    first = learner.learn(x[:half], y[:half], course=len(x), save=True, flash=flash)
    second = learner.learn(x[half:], y[half:], course=len(x), restore=True, flash=flash)
    assert second.to_bytes() == whole.to_bytes()
    assert learner.learn(restore=True, flash=flash).to_bytes() == first.to_bytes()
    assert learner.learn(arrays=first.learned()).to_bytes() == first.to_bytes()
    with pytest.raises(errors.UsageError, match="flash"):
        offshoot.open(learner.to_bytes()).learn(x, y, save=True)


def test_a_classifier_learns_whole_and_in_parts(learner, shifted):
    (x, y), (tx, ty) = shifted
    whole = offshoot.Classifier(learner, epochs=1, course=len(x)).fit(x, y)
    parts = offshoot.Classifier(learner, course=len(x))
    for at in range(0, len(x), 30):
        parts.partial_fit(x[at : at + 30], y[at : at + 30])
    assert parts.model_.to_bytes() == whole.model_.to_bytes()
    assert whole.score(tx, ty) > learner.eval(tx, ty)["value"]
    predicted = whole.predict(tx)
    assert predicted.shape == ty.shape and predicted.dtype == np.int64
    assert whole.score(tx, ty) == pytest.approx(whole.model_.eval(tx, ty)["value"])
    np.testing.assert_array_equal(whole.classes_, np.arange(5))


def test_a_classifier_takes_new_classes(learner, shifted):
    (x, y), _ = shifted
    known = learner.classes
    new = np.full(12, known)
    model = offshoot.Classifier(learner).fit(np.concatenate([x, x[:12][:, ::-1]]), np.concatenate([y, new]))
    assert len(model.classes_) == known + 1 and model.decision_function(x).shape == (len(x), known + 1)
    later = offshoot.Classifier(learner).partial_fit(x[:20], y[:20], classes=np.arange(known + 1))
    later.partial_fit(x[:12], new)
    assert len(later.classes_) == known + 1
    with pytest.raises(errors.MismatchError, match="class"):
        offshoot.Classifier(learner).partial_fit(x[:20], y[:20]).partial_fit(x[:12], new)


def test_scikit_learn_clones_it(learner):
    base = pytest.importorskip("sklearn.base")
    copy = base.clone(offshoot.Classifier(learner, epochs=3), safe=False)
    assert copy.epochs == 3 and not hasattr(copy, "model_")
    with pytest.raises(errors.UsageError, match="not learned"):
        copy.predict(np.zeros(3))


def test_a_model_without_a_plan_says_so(model, shifted):
    (x, y), _ = shifted
    with pytest.raises(errors.UsageError, match="learning plan"):
        model.learn(x, y)
    with pytest.raises(errors.UsageError, match="learning plan"):
        offshoot.Classifier(model).fit(x, y)
