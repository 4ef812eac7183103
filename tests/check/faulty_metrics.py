"""Metrics with one fault each, which the checker has to find, and the right ones that they are made of."""

import keras
from keras import ops


class Accuracy(keras.metrics.Metric):
    """The share of rows whose largest prediction is that of the label."""

    def __init__(self, factor=1.0, name="accuracy", dtype=None):
        super().__init__(name=name, dtype=dtype)
        self.factor = factor
        self.total = self.add_variable((), "zeros", name="total")
        self.count = self.add_variable((), "zeros", name="count")

    def rows(self, y_true, y_pred):
        return ops.equal(ops.cast(ops.argmax(y_pred, axis=-1), "int32"), ops.cast(y_true, "int32"))

    def update_state(self, y_true, y_pred, sample_weight=None):
        hits = ops.cast(self.rows(y_true, y_pred), self.dtype)
        weight = ops.ones_like(hits) if sample_weight is None else ops.cast(sample_weight, self.dtype)
        self.add(ops.sum(hits * weight), ops.sum(weight))

    def add(self, total, count):
        self.total.assign_add(total)
        self.count.assign_add(count)

    def result(self):
        return self.factor * ops.divide_no_nan(self.total, self.count)

    def get_config(self):
        return {**super().get_config(), "factor": self.factor}


class OfBoth(Accuracy):
    """A result of a dict, whose parts have other sizes."""

    def result(self):
        return {"share": super().result(), "counts": 1e4 * ops.stack([self.total, self.count])}


class WrongPart(OfBoth):
    """A small part is wrong, beside large numbers that are right."""

    def result(self):
        result = super().result()
        return {**result, "share": 1.001 * result["share"]}


class Unweighted(Accuracy):
    """It takes no weights, not even none, which `fit` gives it."""

    def update_state(self, y_true, y_pred):
        super().update_state(y_true, y_pred)


class Refusing(Accuracy):
    """It refuses weights."""

    def update_state(self, y_true, y_pred, sample_weight=None):
        if sample_weight is not None:
            raise TypeError("`sample_weight` must be None")
        super().update_state(y_true, y_pred)


class Lazy(Accuracy):
    """Its variable is made by the first update."""

    def __init__(self, name="lazy", dtype=None):
        keras.metrics.Metric.__init__(self, name=name, dtype=dtype)
        self.sums = None

    def update_state(self, y_true, y_pred, sample_weight=None):
        if self.sums is None:
            self.sums = self.add_variable((y_pred.shape[-1],), "zeros", name="sums")
        rows = ops.cast(y_pred, self.dtype)
        if sample_weight is not None:
            rows = rows * ops.cast(sample_weight, self.dtype)[:, None]
        self.sums.assign_add(ops.sum(rows, axis=0))

    def result(self):
        return self.sums + 0.0

    def get_config(self):
        return keras.metrics.Metric.get_config(self)


class MeanOfMeans(Accuracy):
    """A mean over batches, of whatever size."""

    def add(self, total, count):
        super().add(ops.divide_no_nan(total, count), 1.0)


class LastBatch(Accuracy):
    """Only the last batch counts."""

    def add(self, total, count):
        self.total.assign(total)
        self.count.assign(count)


class EmptyBatchIsNaN(Accuracy):
    """A batch of no rows makes it NaN."""

    def add(self, total, count):
        super().add(total / count * count, count)


class IgnoredWeights(Accuracy):
    """Weights do nothing."""

    def update_state(self, y_true, y_pred, sample_weight=None):
        super().update_state(y_true, y_pred)


class HalfWeighted(Accuracy):
    """Weights count above and not below."""

    def update_state(self, y_true, y_pred, sample_weight=None):
        hits = ops.cast(self.rows(y_true, y_pred), self.dtype)
        weighted = hits if sample_weight is None else hits * ops.cast(sample_weight, self.dtype)
        self.add(ops.sum(weighted), ops.cast(ops.shape(hits)[0], self.dtype))


class ResetForgets(Accuracy):
    """`reset_state` forgets one of the variables."""

    def reset_state(self):
        self.total.assign(0.0)


class PythonState(Accuracy):
    """Its state is in an attribute, which no framework knows of."""

    seen = 0.0

    def add(self, total, count):
        super().add(total, count)
        self.seen = self.seen + count

    def result(self):
        return ops.divide_no_nan(self.total, self.seen + 0.0 * self.total)


class SharedState(Accuracy):
    """Its state is in an attribute of the class, which all share."""

    seen = [0]  # noqa: RUF012  # the fault

    def update_state(self, y_true, y_pred, sample_weight=None):
        self.seen[0] += 1
        super().update_state(y_true, y_pred, sample_weight)

    def result(self):
        return super().result() + self.seen[0]


class HalfSums(keras.metrics.Metric):
    """Sums in the dtype of predictions, of which float16 holds no large ones."""

    def __init__(self, name="half", dtype=None):
        super().__init__(name=name, dtype=dtype)
        self.total = self.add_variable((), "zeros", name="total")

    def update_state(self, y_true, y_pred, sample_weight=None):
        off = ops.abs(y_pred - ops.cast(y_true, y_pred.dtype))
        if sample_weight is not None:
            weight = ops.cast(sample_weight, y_pred.dtype)
            off = off * ops.reshape(weight, (-1, *[1] * (len(off.shape) - 1)))
        self.total.assign_add(ops.cast(ops.sum(off), self.dtype))

    def result(self):
        return self.total + 0.0


class HalfVariable(keras.metrics.MeanSquaredError):
    """A variable of float16."""

    def add_variable(self, *args, **named):
        return super().add_variable(*args, **{**named, "dtype": "float16"})


class NaNBefore(Accuracy):
    """0 / 0 before the first update."""

    def result(self):
        return self.factor * self.total / self.count


class LostParameter(Accuracy):
    """Its config leaves out a parameter."""

    def get_config(self):
        return keras.metrics.Metric.get_config(self)


class LostDtype(Accuracy):
    """Its dtype is float32 again when it is made from its config."""

    @classmethod
    def from_config(cls, config):
        return cls(**{**config, "dtype": "float32"})


class WrongAxis(Accuracy):
    """The largest prediction of a column in place of that of a row."""

    def rows(self, y_true, y_pred):
        best = ops.equal(y_pred, ops.max(y_pred, axis=0, keepdims=True))
        return ops.any(ops.logical_and(best, ops.one_hot(ops.cast(y_true, "int32"), y_pred.shape[-1]) > 0), axis=-1)


class WrongTie(keras.metrics.Metric):
    """A prediction of exactly 0.5 counts as positive."""

    def __init__(self, name="positives", dtype=None):
        super().__init__(name=name, dtype=dtype)
        self.total = self.add_variable((), "zeros", name="total")

    def update_state(self, y_true, y_pred):
        self.total.assign_add(ops.sum(ops.cast(y_pred >= 0.5, self.dtype)))

    def result(self):
        return self.total + 0.0


class StaticRows(Accuracy):
    """It counts rows by the shape, which is not known when TensorFlow traces."""

    def update_state(self, y_true, y_pred, sample_weight=None):
        weight = ops.ones((y_pred.shape[0],)) if sample_weight is None else sample_weight
        super().update_state(y_true, y_pred, weight)


class OfBatches(keras.metrics.Mean):
    """The largest value of each batch, by intent, and their mean."""

    batch_dependent = True

    def update_state(self, y_true, y_pred, sample_weight=None):
        super().update_state(ops.max(y_pred))


class OrderMatters(keras.metrics.Metric):
    """It says that it is one of batches, and weighs later ones more."""

    batch_dependent = True

    def __init__(self, name="order", dtype=None):
        super().__init__(name=name, dtype=dtype)
        self.kept = self.add_variable((), "zeros", name="kept")

    def update_state(self, y_true, y_pred, sample_weight=None):
        self.kept.assign(0.5 * self.kept + ops.cast(ops.max(y_pred), self.dtype))

    def result(self):
        return self.kept + 0.0


def hits(y_true, y_pred):
    """A plain function of rows for `compile(metrics=...)`."""
    return ops.cast(ops.equal(ops.cast(ops.argmax(y_pred, axis=-1), "int32"), ops.cast(y_true, "int32")), "float32")


def mean_of_hits(y_true, y_pred):
    """A plain function that takes the mean of a batch itself."""
    return ops.mean(hits(y_true, y_pred))


DEFINED_ONCE = Accuracy(factor=2.0)
