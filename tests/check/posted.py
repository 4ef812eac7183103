"""Losses in the forms that people post, written from their formulas. Right, but for those at the end."""

import keras
from keras import ops

# --- masks -----------------------------------------------------------------------------------------------------------


def dice_coef(y_true, y_pred, smooth=1.0):
    y_true_f = ops.reshape(y_true, (-1,))
    y_pred_f = ops.reshape(y_pred, (-1,))
    intersection = ops.sum(y_true_f * y_pred_f)
    return (2.0 * intersection + smooth) / (ops.sum(y_true_f) + ops.sum(y_pred_f) + smooth)


def dice_coef_loss(y_true, y_pred):
    return 1.0 - dice_coef(y_true, y_pred)


def dice_loss_tiny_smooth(y_true, y_pred, smooth=1e-7):
    y_true = ops.cast(ops.reshape(y_true, [-1]), "float32") if y_true.dtype == "bool" else ops.reshape(y_true, [-1])
    y_pred = ops.reshape(y_pred, [-1])
    numerator = 2 * ops.sum(y_true * y_pred) + smooth
    return 1 - numerator / (ops.sum(y_true) + ops.sum(y_pred) + smooth)


def soft_dice_loss(y_true, y_pred):
    """Of each image, with squares in the denominator."""
    axes = tuple(range(1, len(y_pred.shape)))
    numerator = 2.0 * ops.sum(y_pred * y_true, axes)
    denominator = ops.sum(ops.square(y_pred) + ops.square(y_true), axes)
    return 1 - ops.mean((numerator + keras.backend.epsilon()) / (denominator + keras.backend.epsilon()))


def jaccard_distance(y_true, y_pred, smooth=100):
    intersection = ops.sum(ops.abs(y_true * y_pred), axis=-1)
    total = ops.sum(ops.abs(y_true) + ops.abs(y_pred), axis=-1)
    jac = (intersection + smooth) / (total - intersection + smooth)
    return (1 - jac) * smooth


def iou_loss(y_true, y_pred):
    y_true, y_pred = ops.reshape(y_true, (-1,)), ops.reshape(y_pred, (-1,))
    intersection = ops.sum(y_true * y_pred)
    union = ops.sum(y_true) + ops.sum(y_pred) - intersection
    return 1.0 - (intersection + 1e-6) / (union + 1e-6)


def binary_focal_loss(gamma=2.0, alpha=0.25):
    def binary_focal_loss_fixed(y_true, y_pred):
        epsilon = keras.backend.epsilon()
        y_pred = ops.clip(y_pred, epsilon, 1.0 - epsilon)
        p_t = ops.where(ops.equal(y_true, 1), y_pred, 1 - y_pred)
        alpha_t = ops.where(ops.equal(y_true, 1), alpha, 1 - alpha)
        return ops.mean(-alpha_t * ops.power(1 - p_t, gamma) * ops.log(p_t))

    return binary_focal_loss_fixed


def weighted_bce(weight_0, weight_1):
    def loss(y_true, y_pred):
        bce = ops.binary_crossentropy(y_true, y_pred)
        weights = y_true * weight_1 + (1.0 - y_true) * weight_0
        return ops.mean(weights * bce)

    return loss


def tversky(y_true, y_pred, alpha=0.7, smooth=1):
    y_true_pos = ops.reshape(y_true, [-1])
    y_pred_pos = ops.reshape(y_pred, [-1])
    true_pos = ops.sum(y_true_pos * y_pred_pos)
    false_neg = ops.sum(y_true_pos * (1 - y_pred_pos))
    false_pos = ops.sum((1 - y_true_pos) * y_pred_pos)
    return (true_pos + smooth) / (true_pos + alpha * false_neg + (1 - alpha) * false_pos + smooth)


def tversky_loss(y_true, y_pred):
    return 1 - tversky(y_true, y_pred)


def focal_tversky_with_epsilon(y_true, y_pred, gamma=0.75):
    return ops.power(1 - tversky(y_true, y_pred) + 1e-6, gamma)


def bce_dice_loss(y_true, y_pred):
    bce = keras.losses.binary_crossentropy(y_true, y_pred)
    return ops.mean(bce) + dice_coef_loss(y_true, y_pred)


def combo_loss(y_true, y_pred, alpha=0.5, beta=0.6):
    epsilon = 1e-6
    y_true, y_pred = ops.reshape(y_true, [-1]), ops.reshape(y_pred, [-1])
    dice = (2.0 * ops.sum(y_true * y_pred) + 1) / (ops.sum(y_true) + ops.sum(y_pred) + 1)
    p = ops.clip(y_pred, epsilon, 1.0 - epsilon)
    out = -(beta * (y_true * ops.log(p)) + (1 - beta) * (1.0 - y_true) * ops.log(1.0 - p))
    return alpha * ops.mean(out) - (1 - alpha) * dice


def log_cosh_dice_loss(y_true, y_pred):
    x = dice_coef_loss(y_true, y_pred)
    return ops.log((ops.exp(x) + ops.exp(-x)) / 2.0)


class DiceLoss(keras.losses.Loss):
    def __init__(self, smooth=1e-6, name="dice_loss", **kwargs):
        super().__init__(name=name, **kwargs)
        self.smooth = smooth

    def call(self, y_true, y_pred):
        axis = list(range(1, len(y_pred.shape)))
        intersection = ops.sum(y_true * y_pred, axis=axis)
        union = ops.sum(y_true, axis=axis) + ops.sum(y_pred, axis=axis)
        return 1.0 - (2.0 * intersection + self.smooth) / (union + self.smooth)

    def get_config(self):
        config = super().get_config()
        config.update({"smooth": self.smooth})
        return config


class FocalLoss(keras.losses.Loss):
    def __init__(self, alpha=0.25, gamma=2.0, reduction="sum_over_batch_size", name="focal_loss"):
        super().__init__(reduction=reduction, name=name)
        self.alpha = alpha
        self.gamma = gamma

    def call(self, y_true, y_pred):
        y_pred = ops.clip(y_pred, 1e-4, 1.0 - 1e-4)
        pt = y_true * y_pred + (1 - y_true) * (1 - y_pred)
        w = y_true * self.alpha + (1 - y_true) * (1 - self.alpha)
        return ops.mean(-w * ops.power(1.0 - pt, self.gamma) * ops.log(pt), axis=(1, 2, 3))

    def get_config(self):
        config = super().get_config()
        config.update({"alpha": self.alpha, "gamma": self.gamma})
        return config


# --- classes ---------------------------------------------------------------------------------------------------------


def categorical_focal_loss(alpha=0.25, gamma=2.0):
    def categorical_focal_loss_fixed(y_true, y_pred):
        y_pred = y_pred / ops.sum(y_pred, axis=-1, keepdims=True)
        y_pred = ops.clip(y_pred, keras.backend.epsilon(), 1.0 - keras.backend.epsilon())
        cross_entropy = -y_true * ops.log(y_pred)
        loss = alpha * ops.power(1 - y_pred, gamma) * cross_entropy
        return ops.mean(ops.sum(loss, axis=-1))

    return categorical_focal_loss_fixed


def kl_loss(y_true, y_pred):
    y_true = ops.clip(y_true, 1e-7, 1)
    y_pred = ops.clip(y_pred, 1e-7, 1)
    return ops.sum(y_true * ops.log(y_true / y_pred), axis=-1)


def label_smoothing_loss(smoothing=0.1):
    def loss(y_true, y_pred):
        classes = y_pred.shape[-1]
        y_true = y_true * (1.0 - smoothing) + smoothing / classes
        return -ops.sum(y_true * ops.log_softmax(y_pred, axis=-1), axis=-1)

    return loss


def macro_soft_f1(y_true, y_pred):
    tp = ops.sum(y_pred * y_true, axis=0)
    fp = ops.sum(y_pred * (1 - y_true), axis=0)
    fn = ops.sum((1 - y_pred) * y_true, axis=0)
    return ops.mean(1 - 2 * tp / (2 * tp + fn + fp + 1e-16))


def sparse_ce_with_temperature(temperature=2.0):
    def loss(y_true, y_pred):
        return keras.losses.sparse_categorical_crossentropy(y_true, y_pred / temperature, from_logits=True)

    return loss


class WeightedTwoClassCrossentropy(keras.losses.Loss):
    """One-hot labels of two classes."""

    def __init__(self, weights=(1.0, 3.0), **kwargs):
        super().__init__(**kwargs)
        self.weights = list(weights)

    def call(self, y_true, y_pred):
        y_pred = ops.clip(y_pred, 1e-7, 1.0)
        weights = ops.convert_to_tensor(self.weights, dtype=y_pred.dtype)
        return -ops.sum(weights * y_true * ops.log(y_pred), axis=-1)

    def get_config(self):
        return {**super().get_config(), "weights": self.weights}


# --- regression ------------------------------------------------------------------------------------------------------


def log_cosh(y_true, y_pred):
    x = y_pred - y_true
    return ops.mean(x + ops.softplus(-2.0 * x) - ops.log(2.0), axis=-1)


def quantile_loss(q):
    def loss(y_true, y_pred):
        e = y_true - y_pred
        return ops.mean(ops.maximum(q * e, (q - 1) * e), axis=-1)

    return loss


def huber_loss(y_true, y_pred, clip_delta=1.0):
    error = y_true - y_pred
    cond = ops.abs(error) < clip_delta
    squared_loss = 0.5 * ops.square(error)
    linear_loss = clip_delta * (ops.abs(error) - 0.5 * clip_delta)
    return ops.mean(ops.where(cond, squared_loss, linear_loss))


def smooth_l1(y_true, y_pred):
    diff = ops.abs(y_true - y_pred)
    less_than_one = ops.cast(ops.less(diff, 1.0), y_pred.dtype)
    loss = less_than_one * 0.5 * diff**2 + (1 - less_than_one) * (diff - 0.5)
    return ops.mean(loss, axis=-1)


def wing_loss(y_true, y_pred, w=10.0, epsilon=2.0):
    x = ops.abs(y_true - y_pred)
    c = w - w * ops.log(1.0 + w / epsilon)
    return ops.mean(ops.where(x < w, w * ops.log(1.0 + x / epsilon), x - c), axis=-1)


def charbonnier(y_true, y_pred):
    return ops.mean(ops.sqrt(ops.square(y_true - y_pred) + 1e-6))


def mape(y_true, y_pred):
    diff = ops.abs((y_true - y_pred) / ops.maximum(ops.abs(y_true), 1e-3))
    return 100.0 * ops.mean(diff, axis=-1)


def pearson_loss(y_true, y_pred):
    x = y_true - ops.mean(y_true)
    y = y_pred - ops.mean(y_pred)
    r = ops.sum(x * y) / ops.sqrt(ops.sum(ops.square(x)) * ops.sum(ops.square(y)) + 1e-6)
    return 1 - r


def ccc_loss(y_true, y_pred):
    true_mean, pred_mean = ops.mean(y_true), ops.mean(y_pred)
    covariance = ops.mean((y_true - true_mean) * (y_pred - pred_mean))
    denominator = ops.var(y_true) + ops.var(y_pred) + ops.square(true_mean - pred_mean)
    return 1 - 2 * covariance / (denominator + 1e-8)


def cosine_loss(y_true, y_pred):
    """Distance from a centre on the unit sphere."""
    y_true = ops.normalize(y_true, axis=-1)
    y_pred = ops.normalize(y_pred, axis=-1)
    return 1 - ops.sum(y_true * y_pred, axis=-1)


def hinge(y_true, y_pred):
    sign = ops.where(y_true > 0, 1.0, -1.0)
    return ops.mean(ops.maximum(1.0 - sign * y_pred, 0.0), axis=-1)


def gaussian_nll(y_true, y_pred):
    """`y_pred` is mean and logarithm of the variance."""
    mean, log_var = y_pred[:, 0:1], y_pred[:, 1:2]
    return ops.mean(0.5 * (log_var + ops.square(y_true - mean) * ops.exp(-log_var)))


class RMSLELoss(keras.losses.Loss):
    def __init__(self, name="rmsle", **kwargs):
        super().__init__(name=name, **kwargs)

    def call(self, y_true, y_pred):
        y_true = ops.reshape(y_true, ops.shape(y_pred))
        first = ops.log(ops.maximum(y_pred, 0.0) + 1.0)
        second = ops.log(ops.maximum(y_true, 0.0) + 1.0)
        return ops.sqrt(ops.mean(ops.square(first - second), axis=-1) + 1e-7)


# --- embeddings, pairs, ranking --------------------------------------------------------------------------------------


def contrastive_loss(margin=1.0):
    """`y_true` is 1 for a pair of the same class, `y_pred` its distance."""

    def loss(y_true, y_pred):
        square_pred = ops.square(y_pred)
        margin_square = ops.square(ops.maximum(margin - y_pred, 0))
        return ops.mean(y_true * square_pred + (1 - y_true) * margin_square)

    return loss


def triplet_of_concatenated(y_true, y_pred, alpha=0.4):
    """`y_pred` is anchor, positive and negative, one after the other; `y_true` is not used."""
    size = y_pred.shape[-1] // 3
    anchor, positive, negative = y_pred[:, :size], y_pred[:, size : 2 * size], y_pred[:, 2 * size :]
    pos_dist = ops.sum(ops.square(anchor - positive), axis=1)
    neg_dist = ops.sum(ops.square(anchor - negative), axis=1)
    return ops.maximum(pos_dist - neg_dist + alpha, 0.0)


def _pairwise_distances(embeddings):
    differences = ops.expand_dims(embeddings, 1) - ops.expand_dims(embeddings, 0)
    return ops.sqrt(ops.sum(ops.square(differences), axis=-1) + 1e-12)


def triplet_batch_all(y_true, y_pred, margin=0.5):
    labels = ops.reshape(y_true, [-1])
    dist = _pairwise_distances(y_pred)
    same = ops.equal(ops.expand_dims(labels, 0), ops.expand_dims(labels, 1))
    other = ops.logical_not(ops.cast(ops.eye(ops.shape(dist)[0]), "bool"))
    positive = ops.cast(ops.logical_and(same, other), dist.dtype)
    negative = ops.cast(ops.logical_not(same), dist.dtype)
    mask = ops.expand_dims(positive, 2) * ops.expand_dims(negative, 1)
    loss = ops.maximum((ops.expand_dims(dist, 2) - ops.expand_dims(dist, 1) + margin) * mask, 0.0)
    active = ops.sum(ops.cast(ops.greater(loss, 1e-16), dist.dtype))
    return ops.sum(loss) / (active + 1e-16)


def triplet_batch_hard(y_true, y_pred, margin=0.5):
    labels = ops.reshape(y_true, [-1])
    dist = _pairwise_distances(y_pred)
    same = ops.cast(ops.equal(labels[:, None], labels[None, :]), dist.dtype)
    hardest_positive = ops.max(dist * same, axis=1)
    hardest_negative = ops.min(dist + ops.max(dist, axis=1, keepdims=True) * same, axis=1)
    return ops.mean(ops.maximum(hardest_positive - hardest_negative + margin, 0.0))


def supcon_loss(y_true, y_pred, temperature=0.1):
    labels = ops.reshape(y_true, (-1, 1))
    features = ops.normalize(y_pred, axis=1)
    logits = ops.matmul(features, ops.transpose(features)) / temperature
    others = 1.0 - ops.eye(ops.shape(logits)[0], dtype=logits.dtype)
    positives = ops.cast(ops.equal(labels, ops.transpose(labels)), logits.dtype) * others
    logits = logits - 1.0 / temperature  # the largest that there can be
    log_prob = logits - ops.log(ops.sum(ops.exp(logits) * others, axis=1, keepdims=True) + 1e-12)
    return -ops.sum(positives * log_prob, axis=1) / ops.maximum(ops.sum(positives, axis=1), 1.0)


def nt_xent(y_true, y_pred, temperature=0.5):
    """`y_pred` is two views of each example, `[B, 2, D]`; `y_true` is not used."""
    z = ops.normalize(y_pred, axis=-1)
    a, b = z[:, 0], z[:, 1]
    large = 1e9 * ops.eye(ops.shape(a)[0], dtype=a.dtype)
    ab, aa = ops.matmul(a, ops.transpose(b)) / temperature, ops.matmul(a, ops.transpose(a)) / temperature
    ba, bb = ops.transpose(ab), ops.matmul(b, ops.transpose(b)) / temperature
    right = ops.sum(a * b, axis=-1) / temperature
    loss_a = ops.logsumexp(ops.concatenate([ab, aa - large], axis=1), axis=1) - right
    loss_b = ops.logsumexp(ops.concatenate([ba, bb - large], axis=1), axis=1) - right
    return (loss_a + loss_b) / 2.0


def pairwise_hinge(y_true, y_pred):
    """Of the items of each list, those of higher relevance should have scores higher by 1."""
    better = ops.cast(y_true[:, :, None] > y_true[:, None, :], y_pred.dtype)
    margins = 1.0 - (y_pred[:, :, None] - y_pred[:, None, :])
    return ops.sum(better * ops.maximum(margins, 0.0), axis=(1, 2))


# --- common forms that are wrong -------------------------------------------------------------------------------------


def bce_without_clip(y_true, y_pred):
    return -ops.mean(y_true * ops.log(y_pred) + (1.0 - y_true) * ops.log(1.0 - y_pred))


def rmse(y_true, y_pred):
    return ops.sqrt(ops.mean(ops.square(y_pred - y_true), axis=-1))


def focal_tversky(y_true, y_pred, gamma=0.75):
    return ops.power(1 - tversky(y_true, y_pred), gamma)


def iou_without_smooth(y_true, y_pred):
    intersection = ops.sum(y_true * y_pred, axis=(1, 2, 3))
    union = ops.sum(y_true + y_pred, axis=(1, 2, 3)) - intersection
    return 1.0 - intersection / union


def batch_hard_by_products(y_true, y_pred, margin=0.5):
    """Distances from dot products."""
    labels = ops.reshape(y_true, [-1])
    dot_product = ops.matmul(y_pred, ops.transpose(y_pred))
    square_norm = ops.diagonal(dot_product)
    dist = ops.maximum(square_norm[:, None] - 2.0 * dot_product + square_norm[None, :], 0.0)
    same = ops.cast(ops.equal(labels[:, None], labels[None, :]), dist.dtype)
    hardest_positive = ops.max(dist * same, axis=1)
    hardest_negative = ops.min(dist + ops.max(dist, axis=1, keepdims=True) * same, axis=1)
    return ops.mean(ops.maximum(hardest_positive - hardest_negative + margin, 0.0))


class CustomMSE(keras.losses.Loss):
    """As in the documentation of Keras."""

    def call(self, y_true, y_pred):
        return ops.mean(ops.square(y_pred - y_true), axis=-1)


class FlatDiceLoss(keras.losses.Loss):
    """One number for the batch."""

    def __init__(self, smooth=1.0, **kwargs):
        super().__init__(**kwargs)
        self.smooth = smooth

    def call(self, y_true, y_pred):
        return 1.0 - dice_coef(y_true, y_pred, self.smooth)

    def get_config(self):
        return {**super().get_config(), "smooth": self.smooth}


class FocalLossWithoutConfig(keras.losses.Loss):
    def __init__(self, gamma=2.0, name="focal"):
        super().__init__(name=name)
        self.gamma = gamma

    def call(self, y_true, y_pred):
        y_pred = ops.clip(y_pred, 1e-4, 1.0 - 1e-4)
        pt = y_true * y_pred + (1 - y_true) * (1 - y_pred)
        return ops.mean(-ops.power(1.0 - pt, self.gamma) * ops.log(pt), axis=(1, 2, 3))
