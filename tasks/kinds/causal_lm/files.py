"""Files of a language model's data, reference and scores; dvc.yaml names their folders alone."""

from __future__ import annotations

from pathlib import Path

# of the data
EVALUATION = Path("evaluation/rows.json")
TASK_SET = Path("evaluation/tasks.json")
CALIBRATION = Path("calibration/texts.json")
PROMPTS = Path("workload/prompts.json")
PROBE = Path("probe/probe.json")
# of the reference and, but for the log-probabilities, of each variant's scores
LOGPROBS = Path("logprobs.npy")  # float16, shape (predictions, vocabulary)
TOKENS = Path("tokens.npz")
CHOICES = Path("choices.npz")
ANSWERS = Path("answers.json")  # to the prompts of the tasks
PROBE_LOGPROBS = Path("probe/logprobs.npy")  # float16, shape (probe tokens - 1, vocabulary)
PROBE_ANSWER = Path("probe/answer.txt")  # greedy answer to the probe's question
