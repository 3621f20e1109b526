"""The metric catalogue of ONNX files."""

from __future__ import annotations

from tasks.kinds.arrays.metrics import catalogue
from tasks.kinds.catalogue import NEVER, Axis, CardLine, Column, Gate, MetricSpec, Place

NO_LABELS = "the inputs came without labels"

QUALITY = (
    MetricSpec(
        name="agreement", title="same answers", group="quality", better="higher", form="percent", source="quality",
        counted="rows", interval="rows", gate=Gate("agree", 0.95, limits="share"),
        column=Column(
            "same answers",
            "the reference's class, of the output that differs most; without classes: cosine", order=2,
            extras=("± se",), drop=NEVER,
        ),
        card=CardLine("same answers as the reference", "{:.2%}", order=1),
        axis=Axis("quality", 0.1, "linear", "", words="same answers", order=1), headline=Place(4, "same answers"),
        step=Place(4, "same answers"), plane=Place(3, "same answers"), claim="gives {} of the answers",
        beside="{} of the answers the same", tip=True, watch=Place(5, "same answers on the evaluation rows"),
    ),
    MetricSpec(
        name="cosine", title="cosine to the reference", group="quality", better="higher", form="ratio",
        source="quality", counted="rows", interval="rows", gate=Gate("cosine", 0.98, limits="share"),
        column=Column("cosine", "of an output with the reference's, of the one that differs most", order=3, drop=5),
        card=CardLine("cosine of outputs with the reference's", "{:.4f}", order=2),
    ),
    MetricSpec(
        name="output_error", title="difference of outputs", group="quality", better="lower", form="small",
        source="quality", counted="rows", interval="rows",
        column=Column("difference", "root mean square, over the spread of the reference's output", order=4, drop=6),
        card=CardLine("difference of outputs, over their spread", "{:.4f}", order=3),
    ),
    MetricSpec(
        name="accuracy", title="accuracy", group="quality", better="higher", form="percent", source="quality",
        counted="rows", absent=NO_LABELS, card=CardLine("accuracy", "{:.2%}", order=4),
    ),
    MetricSpec(
        name="retention", title="accuracy kept", group="quality", better="higher", form="percent", source="quality",
        counted="rows", absent=NO_LABELS, interval="items", gate=Gate("kept", limits="share"),
        card=CardLine("accuracy as a share of the reference's", "{:.2%}", order=5),
    ),
)  # fmt: skip
CATALOGUE = catalogue("onnx-file", QUALITY, "row", "rows")
