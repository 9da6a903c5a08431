"""A model and its tokenizer as one GGUF file, the format of llama.cpp and Ollama."""

import contextlib
import errno
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from turnsmith.errors import ModelError
from turnsmith.models import gguf_tokens

if TYPE_CHECKING:
    import numpy as np
    import torch
    from gguf import GGMLQuantizationType, GGUFWriter
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

# Architectures whose files transformers reads back to the same logits (tests/models/test_export_gguf.py).
ARCHITECTURES = {"llama": "LLAMA", "qwen2": "QWEN2", "qwen3": "QWEN3"}
Quantisation = Literal["f32", "f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0"]
QUANTISATIONS: tuple[Quantisation, ...] = get_args(Quantisation)
PLAIN = ("f32", "f16", "bf16")


def lacks(config: "PretrainedConfig") -> list[str]:
    """What this writer would lose of a model with these settings; an unknown architecture is all of it."""
    kind = config.model_type
    if kind not in ARCHITECTURES:
        known = ", ".join(ARCHITECTURES)
        return [f"the architecture {kind!r}: files of {known} are written and proved, no others"]
    lost: list[str] = []
    rope = getattr(config, "rope_parameters", None) or {}
    if rope.get("rope_type", "default") != "default":
        lost.append(f"the scaling {rope['rope_type']!r} of the positions")
    if kind != "qwen2" and getattr(config, "attention_bias", False):
        lost.append("the bias terms of the attention")
    if getattr(config, "mlp_bias", False):
        lost.append("the bias terms of the feed-forward layers")
    if getattr(config, "use_sliding_window", False):
        lost.append("the sliding window of the attention")
    if kind == "qwen3" and config.head_dim != 128:
        lost.append(f"heads of {config.head_dim} numbers: transformers reads qwen3 files back with 128 only")
    if getattr(config, "hidden_act", "silu") != "silu":
        lost.append(f"the activation {config.hidden_act!r}: llama.cpp computes silu for {kind}")
    return lost


def write(
    model: "PreTrainedModel",
    words: "PreTrainedTokenizerBase",
    file: Path,
    *,
    name: str,
    stops: Sequence[int],
    quantise: Quantisation,
) -> None:
    """Writes weights, settings, tokenizer, chat template and stop tokens.

    stops: every token that ends a reply. quantise: the type of the matrices; vectors stay float32, and the
    embeddings are never coarser than q8_0, as in the files of llama.cpp's own quantiser.
    Raises ModelError if llama.cpp has no place for the tokenizer or a stop token, or a weight no number.
    """
    from gguf import GGUFWriter, LlamaFileType

    config = model.config
    writer = GGUFWriter(file, ARCHITECTURES[config.model_type].lower())
    writer.add_type("model")
    writer.add_name(name)
    mark = "ALL_F32" if quantise == "f32" else f"MOSTLY_{quantise.upper()}"
    writer.add_file_type(LlamaFileType[mark])
    writer.add_quantization_version(2)  # ggml's GGML_QNT_VERSION
    _settings(writer, config)
    gguf_tokens.write(writer, words, config.vocab_size, stops)
    for tensor, array, kind in _tensors(model, quantise):
        writer.add_tensor(tensor, array, raw_dtype=kind)
    try:
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
    except OSError as error:
        # numpy counts the bytes that a full disk did not take, and gives no number of the system's error.
        if error.errno is None and "requested and" in str(error):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from error
        raise
    finally:
        with contextlib.suppress(OSError):  # it flushes once more; what was wrong has been said
            writer.close()


def bytes_per_weight(quantise: Quantisation) -> float:
    """What a weight takes in the file, at most: embeddings are never coarser than q8_0."""
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

    sizes = [GGML_QUANT_SIZES[GGMLQuantizationType[name.upper()]] for name in (quantise, "q8_0")]
    return max(taken / weights for weights, taken in sizes)


def _settings(writer: "GGUFWriter", config: "PretrainedConfig") -> None:
    head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(head)
    writer.add_value_length(head)
    writer.add_rope_dimension_count(head)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)


def _tensors(
    model: "PreTrainedModel", quantise: Quantisation
) -> "list[tuple[str, np.ndarray, GGMLQuantizationType]]":
    """Name, content and type of each tensor, as llama.cpp calls and lays them out."""
    from gguf import MODEL_ARCH, get_tensor_name_map
    from gguf.quants import quantize

    config = model.config
    names = get_tensor_name_map(MODEL_ARCH[ARCHITECTURES[config.model_type]], config.num_hidden_layers)
    found = []
    for name, tensor in model.state_dict().items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        called = names.get_name(name, try_suffixes=(".weight", ".bias"))
        if called is None:
            raise ModelError(f"GGUF has no name for the weight {name!r} of {config.model_type}")
        weights = tensor.float()
        if config.model_type == "llama":
            weights = _paired(name, weights, config)
        kind = _kind(called, weights, quantise)
        array = quantize(weights.contiguous().numpy(), kind)
        if kind.name == "F16" and not bool(weights.abs().max() < 65504):  # the largest number of 16 bits
            raise ModelError(
                f"the weight {name!r} has numbers beyond those of f16: --quantise f32 holds them"
            )
        found.append((called, array, kind))
    return found


def _paired(name: str, weights: "torch.Tensor", config: Any) -> "torch.Tensor":
    """Rows of the query and key projections as llama.cpp's rotation wants them.

    transformers turns a head's element i together with element i + half, llama.cpp's llama neighbours:
    (heads, 2, half) becomes (heads, half, 2).
    """
    if name.endswith("q_proj.weight"):
        heads = config.num_attention_heads
    elif name.endswith("k_proj.weight"):
        heads = config.num_key_value_heads
    else:
        return weights
    return weights.view(heads, 2, -1, weights.shape[-1]).transpose(1, 2).reshape(weights.shape)


def _kind(called: str, weights: "torch.Tensor", quantise: Quantisation) -> "GGMLQuantizationType":
    """The type of one tensor; rows that do not divide into blocks of 32 stay in 16 bits."""
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

    if weights.dim() == 1:
        return GGMLQuantizationType.F32
    embedding = called in ("token_embd.weight", "output.weight")
    wanted = "q8_0" if embedding and quantise not in PLAIN else quantise
    kind = GGMLQuantizationType[wanted.upper()]
    block, _ = GGML_QUANT_SIZES[kind]
    return kind if weights.shape[-1] % block == 0 else GGMLQuantizationType.F16
