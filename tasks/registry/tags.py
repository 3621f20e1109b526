"""The names of what a run, a logged model and a version say of themselves in MLflow."""

from __future__ import annotations

KIND, COMPLETE = "edgewright.kind", "edgewright.complete"
DIGEST, RESULTS = "edgewright.digest", "edgewright.results_digest"
VARIANT, VERDICT, MANIFEST = "edgewright.variant", "edgewright.verdict", "edgewright.manifest_sha256"
PROFILE, GATES = "edgewright.profile", "edgewright.gates"  # what a version stands on (precedence.Strength)
