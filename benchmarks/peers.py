"""The peers of `step.py`, each run in a process of its own: Trainer of transformers, and SFTTrainer and
DPOTrainer of TRL.

They get token ids and labels, and what they make of them is counted. What is set, beside what `PEERS` names:

* one epoch is one optimiser step over all examples in the order given: rows of a micro-batch are the
  trainer's default (8 a device), accumulated over the epoch;
* the learning rate, constant; fused AdamW, no weight decay and clipping at 1 are their defaults as they are
  ours. Evaluation, saving, reporting and progress bars are off;
* precision: TRL's default is bf16 autocast over fp32 weights, frozen ones included. Here full tuning in bf16
  is that, on both sides; LoRA in bf16 has the frozen weights in bf16 and the adapter in fp32 under autocast,
  on both sides. fp32 is fp32;
* LoRA: rank 16, alpha 32, no dropout, on all linear layers but the head.

Their defaults otherwise: TRL recomputes activations (`gradient_checkpointing=True`), pads each micro-batch to
its longest, and packs by best fit decreasing into rows of `max_length`, of which a micro-batch is one flat
sequence. Under `sdpa` transformers finds the documents in the positions and masks them from each other with
one dense mask over that sequence, so that packing leaves the loss as it is.
"""

from __future__ import annotations

import json
import math
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import Trainer, TrainerCallback, TrainingArguments
from workload import Job

from turnsmith.train.record import peak_device_memory_gib, peak_memory_gib

SEED = 0


@dataclass(frozen=True, slots=True)
class Peer:
    """A setting of a peer. options: of its configuration, beside those of all. batch: rows of a micro-batch,
    where it is not the job's."""

    options: Mapping[str, Any] = field(default_factory=dict[str, Any])
    batch: int | None = None
    trl: bool = True


PLAIN = {"gradient_checkpointing": False}
PACKED = {"packing": True}
LIGER = {"use_liger_kernel": True}
PEERS = {
    "trl": Peer(),
    "trl-plain": Peer(PLAIN),
    "trl-packed": Peer(PACKED),
    "trl-packed-plain": Peer(PACKED | PLAIN),
    "trl-packed-rows": Peer(PACKED | PLAIN, batch=1),
    "trl-liger": Peer(LIGER),
    "trl-plain-liger": Peer(PLAIN | LIGER),
    "trl-packed-liger": Peer(PACKED | LIGER),
    "trainer": Peer(trl=False),
}


class Clock(TrainerCallback):
    """Seconds of each optimiser step, from before its first batch is collated, and its loss."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.losses: list[float] = []
        self.started = 0.0

    def on_epoch_begin(self, *_: Any, **__: Any) -> None:
        self.started = now()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.seconds.append(now() - self.started)

    def on_log(self, *_: Any, logs: Mapping[str, float], **__: Any) -> None:
        if "loss" in logs:
            self.losses.append(logs["loss"])


def now() -> float:
    """The clock, once the device has done what it was given."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def main(job: Job) -> dict[str, Any]:
    """Train, and say what it took."""
    peer, examples, clock = PEERS[job.side], job.examples(), Clock()
    with tempfile.TemporaryDirectory() as place:
        make = {"dpo": preference, "sft": supervised if peer.trl else plain}[job.what]
        trainer = make(job, peer, examples, place)
        trainer.add_callback(clock)
        trainer.train()
    return {
        "seconds": clock.seconds,
        "losses": clock.losses,
        **seen(trainer.train_dataset),
        "precomputing": getattr(trainer, "precomputing", 0.0),
        "peak_gib": peak_memory_gib(),
        "device_gib": peak_device_memory_gib(),
    }


def seen(rows: Any) -> dict[str, int]:
    """Tokens that are read and those that are trained, in what the trainer has prepared."""
    if "labels" in rows.column_names:
        read = sum(len(row["input_ids"]) for row in rows)
        return {"read": read, "supervised": sum(x != -100 for row in rows for x in row["labels"])}
    replies = sum(len(row["chosen_ids"]) + len(row["rejected_ids"]) for row in rows)
    return {"read": replies + sum(2 * len(row["prompt_ids"]) for row in rows), "supervised": replies}


def shared(job: Job, peer: Peer, rows: int, place: str) -> dict[str, Any]:
    """What all trainers are given. rows: how many there are in an epoch, which is one step."""
    batch = peer.batch or job.batch
    return {
        "output_dir": place,
        "per_device_train_batch_size": batch,
        "gradient_accumulation_steps": math.ceil(rows / batch),
        "num_train_epochs": job.steps,
        "train_sampling_strategy": "sequential",
        "learning_rate": job.lr,
        "lr_scheduler_type": "constant",
        "bf16": job.dtype == "bfloat16",
        "seed": SEED,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        **({} if torch.cuda.is_available() else {"use_cpu": True, "dataloader_pin_memory": False}),
        **peer.options,
    }


def weights(job: Job) -> str:
    """The dtype to load in."""
    return "float32" if job.trainable == "full" else job.dtype


def adapter(job: Job) -> Any:
    """LoRA as Turnsmith's default has it; None where all weights learn."""
    from peft import LoraConfig

    if job.trainable == "full":
        return None
    settings = {"r": 16, "lora_alpha": 32, "lora_dropout": 0.0}
    return LoraConfig(**settings, target_modules="all-linear", task_type="CAUSAL_LM")


def supervised(job: Job, peer: Peer, examples: Sequence[Mapping[str, Any]], place: str) -> Trainer:
    from datasets import Dataset
    from trl.data_utils import pack_dataset
    from trl.trainer.sft_config import SFTConfig
    from trl.trainer.sft_trainer import SFTTrainer

    data = Dataset.from_list([dict(one) for one in examples])
    rows = len(pack_dataset(data, job.length, "bfd")) if peer.options.get("packing") else len(data)
    config = SFTConfig(
        max_length=job.length, model_init_kwargs={"dtype": weights(job)}, **shared(job, peer, rows, place)
    )
    return SFTTrainer(model=job.model, args=config, train_dataset=data, peft_config=adapter(job))


def preference(job: Job, peer: Peer, examples: Sequence[Mapping[str, Any]], place: str) -> Trainer:
    """DPOTrainer takes texts only, and tokenises them itself: it is given the ids that it would have made."""
    from datasets import Dataset
    from trl.trainer.dpo_config import DPOConfig
    from trl.trainer.dpo_trainer import DPOTrainer

    class Tokenised(DPOTrainer):
        def _prepare_dataset(self, dataset: Any, processing_class: Any, args: Any, dataset_name: str) -> Any:
            return dataset

        def _precompute_ref_logps(self, dataset: Any, name: str, batch_size: int) -> Any:
            started = now()
            made = super()._precompute_ref_logps(dataset, name, batch_size)
            self.precomputing = now() - started
            return made

    data = Dataset.from_list([dict(one) for one in examples])
    config = DPOConfig(
        max_length=job.length,
        model_init_kwargs={"dtype": weights(job)},
        precompute_ref_log_probs=job.reference == "precomputed",
        **shared(job, peer, len(data), place),
    )
    return Tokenised(model=job.model, args=config, train_dataset=data, peft_config=adapter(job))


def plain(job: Job, peer: Peer, examples: Sequence[Mapping[str, Any]], place: str) -> Trainer:
    """transformers.Trainer with a collator that pads ids and labels."""
    from datasets import Dataset
    from peft import get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer, DataCollatorForSeq2Seq

    data = Dataset.from_list([dict(one) for one in examples])
    words = AutoTokenizer.from_pretrained(job.model)
    words.pad_token = words.pad_token or words.eos_token
    torch.manual_seed(SEED)
    model: Any = AutoModelForCausalLM.from_pretrained(job.model, dtype=getattr(torch, weights(job)))
    lora = adapter(job)
    return Trainer(
        model=get_peft_model(model, lora) if lora else model,
        args=TrainingArguments(**shared(job, peer, len(data), place)),
        train_dataset=data,
        data_collator=DataCollatorForSeq2Seq(words),
    )


if __name__ == "__main__":
    print("\n" + json.dumps(main(Job.read(sys.argv))))
