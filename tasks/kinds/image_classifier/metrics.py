"""The metric catalogue of image classifiers."""

from __future__ import annotations

from tasks.kinds.arrays.metrics import catalogue
from tasks.kinds.catalogue import NEVER, Axis, CardLine, Column, Gate, MetricSpec, Place

NO_CLASSES = "the pictures came without classes"

QUALITY = (
    MetricSpec(
        name="agreement", title="same class", group="quality", better="higher", form="percent", source="quality",
        counted="rows", interval="rows", gate=Gate("same", 0.95, limits="share"),
        column=Column(
            "same class", "pictures whose class is the reference's", order=3, extras=("± se",), drop=NEVER,
            drop_extras=5,
        ),
        card=CardLine("same class as the reference", "{:.2%}", order=2), headline=Place(4, "same class"),
        step=Place(4, "same class"), plane=Place(3, "same class"), claim="gives {} of the classes",
        beside="{} of the classes the same", tip=True, watch=Place(5, "same class on the evaluation pictures"),
    ),
    MetricSpec(
        name="retention", title="accuracy kept", group="quality", better="higher", form="percent", source="quality",
        counted="rows", absent=NO_CLASSES, interval="items", gate=Gate("kept", limits="share", strict=True),
        column=Column("kept", "right classes, as a share of the reference's", order=4, drop=3),
        card=CardLine("accuracy as a share of the reference's", "{:.2%}", order=3), step=Place(5, "accuracy kept"),
    ),
    MetricSpec(
        name="top1", title="top-1 accuracy", group="quality", better="higher", form="percent", source="quality",
        counted="rows", absent=NO_CLASSES, interval="rows",
        column=Column("top-1", "pictures whose likeliest class is the right one", order=2, drop=4),
        card=CardLine("top-1 accuracy", "{:.2%}", order=1),
    ),
    MetricSpec(
        name="top5", title="top-5 accuracy", group="quality", better="higher", form="percent", source="quality",
        counted="rows", absent=NO_CLASSES, interval="rows", card=CardLine("top-5 accuracy", "{:.2%}", order=4),
    ),
    MetricSpec(
        name="top5_agreement", title="the reference's class among five", group="quality", better="higher",
        form="percent", source="quality", counted="rows", interval="rows",
        card=CardLine("the reference's class among the five likeliest", "{:.2%}", order=5),
    ),
    MetricSpec(
        name="mean_kl", title="KL divergence", group="quality", better="lower", form="small", unit="nats",
        source="quality", counted="rows", interval="rows", gate=Gate("KL", 0.10),
        column=Column("KL", "mean KL divergence of the classes' likelihoods from the reference's", order=5, drop=6),
        card=CardLine("mean KL divergence from the reference, nats", "{:.4f}", order=6),
        axis=Axis("quality", 0.1, "linear", "nats", words="mean KL", order=1),
    ),
)  # fmt: skip
CATALOGUE = catalogue("image-classifier", QUALITY, "picture", "pictures")
