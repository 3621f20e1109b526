"""The metric catalogue of text encoders."""

from __future__ import annotations

from tasks.kinds.arrays.metrics import catalogue
from tasks.kinds.catalogue import NEVER, Axis, CardLine, Column, Gate, MetricSpec, Place

QUALITY = (
    MetricSpec(
        name="retention", title="retrieval kept", group="quality", better="higher", form="percent", source="quality",
        counted="rows", interval="items", gate=Gate("found", 0.95, limits="share", strict=True),
        column=Column("kept", "texts found among five, as a share of the reference's", order=3, drop=NEVER),
        card=CardLine("recall@5 as a share of the reference's", "{:.2%}", order=2), step=Place(4, "retrieval kept"),
        watch=Place(6, "retrieval kept on the evaluation texts"), claim="keeps {} of what is found",
        beside="{} of what is found kept", headline=Place(4, "retrieval kept"), tip=True,
    ),
    MetricSpec(
        name="neighbours_10", title="same neighbours", group="quality", better="higher", form="percent",
        source="quality", counted="rows", interval="rows", gate=Gate("near", 0.80, limits="share"),
        column=Column(
            "neighbours", "of a text's ten nearest, the share that the reference finds too", order=4,
            extras=("± se",), drop=NEVER, drop_extras=5,
        ),
        card=CardLine("the same ten nearest texts", "{:.2%}", order=3),
        axis=Axis("quality", 0.1, "linear", "", words="same neighbours", order=1),
        step=Place(5, "same neighbours"), plane=Place(3, "same neighbours"), beside="{} of the neighbours the same",
        watch=Place(5, "same neighbours on the evaluation texts"), tip=True,
    ),
    MetricSpec(
        name="recall_5", title="recall@5", group="quality", better="higher", form="percent", source="quality",
        counted="rows", interval="rows",
        column=Column("recall@5", "a sentence finds the text it was taken out of, among five", order=2, drop=4),
        card=CardLine("recall@5", "{:.2%}", order=1),
    ),
    MetricSpec(
        name="rank_correlation", title="order of likeness", group="quality", better="higher", form="ratio",
        source="quality", counted="rows", interval="rows",
        column=Column("order", "Spearman's correlation of likeness with the reference's", order=5, drop=6),
        card=CardLine("rank correlation of likeness with the reference's", "{:.4f}", order=4),
    ),
    MetricSpec(
        name="cosine", title="cosine to the reference", group="quality", better="higher", form="ratio",
        source="quality", counted="texts", interval="rows", gate=Gate("cosine", 0.97, limits="share"),
        column=Column("cosine", "of a text's vector with the reference's", order=6, drop=3),
        card=CardLine("cosine of vectors with the reference's", "{:.4f}", order=5),
    ),
)  # fmt: skip
CATALOGUE = catalogue("text-encoder", QUALITY, "text", "texts")
