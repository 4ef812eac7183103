"""Find cell nuclei in a microscopy image with a small U-Net, trained with `dice_loss(smooth, thresh)` and `DiceLoss`.

    python -m pip install ".[jax,examples]" && KERAS_BACKEND=jax python examples/segment_nuclei.py

Data: one fluorescence image of 512 x 512 pixels with 125 nuclei outlined by hand (`data/README.md`). Its right third is
held out: the training crops come from the rest and do not reach into it (two nuclei lie across the border, a part on
either side). It is ONE image: the held-out strip has the same stain, exposure and annotator as the rest, and the
figures say nothing about other images.

The first loss is the Dice of the thresholded mask, of the whole batch, which has no gradient but the straight-through
one; the second is the soft Dice, of each crop. Both start from the same weights, with no warm-up, and see the same
batches. They are compared with the best that one threshold for the whole strip can do, chosen on the strip itself.

Runs unchanged on TensorFlow, JAX and PyTorch: set `KERAS_BACKEND`. Initial weights and batches come from NumPy, so that
the backends can be compared. Writes a picture, `segment_nuclei.png`.
"""

import argparse
import json
import os
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "jax")

import keras
import matplotlib
import numpy as np

from multiloss import DiceLoss, dice_loss

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.patches import Patch

SEED = 0
DATA = Path(__file__).parent / "data/nuclei.npz"
BORDER = 336  # columns from here on are held out: a third, in multiples of 16 pixels
WHOLE_IMAGE = 0.861  # Dice of the best global threshold on the whole image
LOSSES = {"dice_loss(smooth=1, thresh=0.5)": dice_loss(smooth=1, thresh=0.5), "DiceLoss()": DiceLoss()}
COLORS = {
    "nucleus, found (true positive)": "0.75",
    "background, taken for nucleus (false positive)": "#e8590c",
    "nucleus, missed (false negative)": "#339af0",
}


def load():
    """Image and truth, each `[512, width, 1]`, of the training region and of the held-out one."""
    with np.load(DATA) as data:
        image, truth = np.sqrt(data["image"]), data["instances"] > 0  # the root tames a few very bright nuclei
    train, test = np.s_[:, :BORDER, None], np.s_[:, BORDER:, None]
    image = (image - image[train].mean()) / image[train].std()
    image = image.astype("float32")
    return image[train], truth[train], image[test], truth[test]


class Crops(keras.utils.PyDataset):
    """Random crops, turned and mirrored, a function of epoch and index alone: the same on every backend."""

    def __init__(self, image, truth, size=96, batch=8, steps=10):
        super().__init__()
        self.image, self.truth, self.size, self.batch, self.steps = image, truth, size, batch, steps
        self.epoch = 0

    def __len__(self):
        return self.steps

    def __getitem__(self, index):
        random = np.random.default_rng([SEED, self.epoch, index])
        images, truths = zip(*[self.crop(random) for _ in range(self.batch)], strict=True)
        return np.stack(images), np.stack(truths)

    def crop(self, random):
        top, left = (random.integers(0, length - self.size, endpoint=True) for length in self.truth.shape[:2])
        turns, mirrored = random.integers(4), random.integers(2)
        for array in (self.image, self.truth):
            array = np.rot90(array[top : top + self.size, left : left + self.size], turns)
            yield array[::-1] if mirrored else array

    def on_epoch_end(self):
        self.epoch += 1


def make_unet(filters=(8, 16, 32)):
    """A U-Net of three levels for images of any size (in multiples of 4), with initial weights from NumPy."""

    def block(x, filters):
        for _ in range(2):
            x = keras.layers.Conv2D(filters, 3, padding="same", use_bias=False)(x)
            x = keras.layers.BatchNormalization(momentum=0.9)(x)
            x = keras.layers.ReLU()(x)
        return x

    x = inputs = keras.Input((None, None, 1))
    skipped = []
    for count in filters[:-1]:
        skipped.append(block(x, count))
        x = keras.layers.MaxPooling2D()(skipped[-1])
    x = block(x, filters[-1])
    for count, skip in zip(filters[-2::-1], skipped[::-1], strict=True):
        x = block(keras.layers.Concatenate()([keras.layers.UpSampling2D()(x), skip]), count)
    unet = keras.Model(inputs, keras.layers.Conv2D(1, 1, activation="sigmoid")(x))

    random = np.random.default_rng(SEED)
    for kernel in (weight for weight in unet.trainable_weights if len(weight.shape) == 4):
        limit = np.sqrt(6 / np.prod(kernel.shape[:-1]))
        kernel.assign(random.uniform(-limit, limit, kernel.shape))
    return unet


def dice(truth, found):
    """Dice of two masks."""
    return float(2 * np.sum(truth & found) / (np.sum(truth) + np.sum(found)))


def draw(path, image, truth, results):
    """The held-out strip: image, truth, and for each loss the prediction and its errors."""
    figure, axes = plt.subplots(1, 2 + 2 * len(results), figsize=(14, 7.9), layout="compressed")
    panels = [("image", image), ("truth, by hand", truth)]
    colors = np.array([matplotlib.colors.to_rgb(color) for color in ("black", *COLORS.values())])
    for title, (found, score) in results.items():
        kind = np.select([truth & found, found, truth], [1, 2, 3])  # an index into the colours
        panels += [(f"{title}\nprediction", found), (f"errors, Dice {score:.3f}", colors[kind[..., 0]])]
    for axis, (title, picture) in zip(axes, panels, strict=True):
        axis.imshow(picture, cmap="gray", interpolation="nearest")
        axis.set_title(title, fontsize=10)
        axis.set_axis_off()
    figure.legend(
        handles=[Patch(color=color, label=label) for label, color in COLORS.items()],
        loc="outside lower center",
        ncols=len(COLORS),
        frameon=False,
    )
    figure.suptitle("Held-out third of ONE image: the figures say nothing about other images")
    figure.savefig(path, dpi=100)


def main():
    """Train with each loss, print the held-out Dice, draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--picture", default="segment_nuclei.png", help="where to write the picture")
    parser.add_argument("--json", help="where to write the losses by epoch and the held-out Dice")
    options = parser.parse_args()

    print(f"Backend: {keras.backend.backend()}")
    train_image, train_truth, image, truth = load()
    print(f"Training on columns 0 to {BORDER - 1} of one image, the other {image.shape[1]} are held out")

    results, report = {}, {}
    for title, loss in LOSSES.items():
        print(title)
        unet = make_unet()
        steps = options.epochs * len(crops := Crops(train_image, train_truth))
        rate = keras.optimizers.schedules.CosineDecay(1e-2, steps)
        unet.compile(optimizer=keras.optimizers.Adam(rate), loss=loss)
        history = unet.fit(crops, epochs=options.epochs, shuffle=False, verbose=2)
        found = unet.predict(image[None], verbose=0)[0] > 0.5  # the whole strip at once: any size fits
        results[title] = found, dice(truth, found)
        report[title] = {"loss": history.history["loss"], "dice": results[title][1]}

    threshold = max(dice(truth, image > level) for level in np.unique(image))
    for title, (_, score) in results.items():
        print(f"Held-out Dice with {title}: {score:.3f}")
    print(f"Best global threshold, chosen on the held-out region itself: {threshold:.3f}; whole image: {WHOLE_IMAGE}")
    print("This is ONE image: the figures say nothing about other images.")
    draw(options.picture, image, truth, results)
    print(f"Picture: {options.picture}")
    if options.json:
        with open(options.json, "w") as file:
            json.dump({"losses": report, "threshold": threshold}, file)


if __name__ == "__main__":
    main()
