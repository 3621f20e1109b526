"""A Hugging Face checkpoint as the unquantized reference: judged, loaded whole, written as fp32."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tasks.errors import ModelError
from tasks.kinds.causal_lm.incoming import accounting, adapters, numbers
from tasks.kinds.causal_lm.incoming.judging import judge
from tasks.kinds.causal_lm.incoming.words import first_line
from tasks.sources import files as sources
from tasks.sources import safetensors

INDEX, WHOLE = "model.safetensors.index.json", "model.safetensors"
WRITING = (  # of generation_config.json; old checkpoints have them in config.json
    "do_sample", "temperature", "top_p", "top_k", "min_p", "typical_p", "epsilon_cutoff", "eta_cutoff", "num_beams",
    "num_beam_groups", "diversity_penalty", "repetition_penalty", "encoder_no_repeat_ngram_size", "length_penalty",
    "no_repeat_ngram_size", "early_stopping", "max_length", "min_length", "max_new_tokens", "min_new_tokens",
    "num_return_sequences", "bad_words_ids", "exponential_decay_length_penalty", "suppress_tokens",
    "begin_suppress_tokens", "task_specific_params", "penalty_alpha", "return_dict_in_generate", "output_scores",
)  # fmt: skip
HEADS = ("lm_head.weight", "embed_out.weight")  # output layers that may be tied to the embedding
EMBEDDINGS = ("embed_tokens.weight", "wte.weight", "word_embeddings.weight", "embed_in.weight", "tok_embeddings.weight")


def expand(source: Path, out: Path, name: str, adapter: Path | None = None) -> tuple[str, ...]:
    """Write the checkpoint in `source` as fp32 safetensors with its configuration into `out`; returns notes.

    An adapter, in a folder of its own, is merged into it.

    Raises ModelError for a checkpoint of another kind, and where a tensor is missing, does not fit, or is no number.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, logging
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    stated = sources.read_object(source / "config.json")
    known = [
        one
        for names in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values()
        for one in (names if isinstance(names, tuple) else (names,))
    ]
    judge(stated, known, name)
    notes = []
    logging.set_verbosity_error()  # it prints tables of tensors; what is wrong is told by us
    try:
        config = AutoConfig.from_pretrained(source, trust_remote_code=False)
        if _untied(source, config):
            config.tie_word_embeddings = False
            notes.append(
                "config.json ties the output layer to the embedding, the files hold two that differ: these are used"
            )
        model, told = AutoModelForCausalLM.from_pretrained(
            source, config=config, dtype=torch.float32, output_loading_info=True, ignore_mismatched_sizes=True,
            trust_remote_code=False,
        )  # fmt: skip
    except (OSError, ValueError, KeyError, RuntimeError, TypeError, AttributeError, ImportError) as error:
        raise ModelError(f"{name} cannot be loaded as a language model: {first_line(error)}") from error
    found = accounting.Found(
        stored=stored_names(source),
        missing=told["missing_keys"],
        unexpected=told["unexpected_keys"],
        shapes={key: (has, wanted) for key, has, wanted in told["mismatched_keys"]},
    )
    notes.append(accounting.account(found, int(getattr(model.config, "num_hidden_layers", 0)), name))
    if adapter is not None:
        model, said = adapters.merge(model, adapter, name)
        notes.append(said)
    notes.append(numbers.check_numbers(model.state_dict().items(), name))
    notes.append(save(model, out))
    return tuple(note for note in notes if note)


def save(model: Any, out: Path) -> str:
    """Write model and configuration; returns a note where settings for writing text could not be kept.

    Old checkpoints have such settings in config.json, and some hold two that contradict each other: the library reads
    these and refuses to write them. Token ids are kept; how an answer is drawn is each request's affair.
    """
    from transformers import GenerationConfig

    dropped = {key for key in vars(model.config) if key in WRITING}
    for key in dropped:
        delattr(model.config, key)
    stated = model.generation_config
    try:
        stated.validate(strict=True)
    except ValueError:
        said = stated.to_diff_dict()
        dropped |= {key for key in said if key in WRITING}
        model.generation_config = GenerationConfig(**{key: said[key] for key in said if key.endswith("_token_id")})
    model.save_pretrained(out)
    return f"settings for writing text, of no use here, were left out: {', '.join(sorted(dropped))}" if dropped else ""


def stored_names(folder: Path) -> set[str]:
    """Names of the tensors that a checkpoint in safetensors holds; none of one in another format."""
    if (folder / INDEX).is_file():
        return set(sources.read_object(folder / INDEX)["weight_map"])
    return {tensor.name for file in _files(folder) for tensor in safetensors.tensors(file)}


def _files(folder: Path) -> list[Path]:
    return [folder / WHOLE] if (folder / WHOLE).is_file() else sorted(folder.glob("*.safetensors"))


def _untied(folder: Path, config: Any) -> bool:
    """Tell whether the configuration ties output layer and embedding, and the files hold two that differ."""
    import torch

    if not getattr(config.get_text_config(), "tie_word_embeddings", False):
        return False
    names = stored_names(folder)
    head = next((one for one in names if one.endswith(HEADS)), None)
    embedding = next((one for one in names if one.endswith(EMBEDDINGS)), None)
    if head is None or embedding is None:
        return False
    first, second = _tensor(folder, head), _tensor(folder, embedding)
    return first.shape != second.shape or not torch.equal(first, second)


def _tensor(folder: Path, name: str) -> Any:
    from safetensors import safe_open

    index = sources.read_object(folder / INDEX)["weight_map"] if (folder / INDEX).is_file() else {}
    for file in [folder / index[name]] if name in index else _files(folder):
        with safe_open(file, "pt") as opened:
            if name in opened.keys():  # noqa: SIM118 - no mapping
                return opened.get_tensor(name)
    raise ModelError(f"{folder}: the index names {name}, its file does not hold it; fetch the model again")
