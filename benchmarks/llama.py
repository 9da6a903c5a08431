"""llama.cpp as a side of `sample.py`: several sequences in one batch, greedy, through its Python binding.

The binding's own `Llama` decodes one sequence at a time, so the functions under it are called as llama.cpp's
server does: as a sequence ends, the next prompt takes its place. Settings are its defaults: the cache is f16,
whatever the weights are.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from ctypes import create_string_buffer
from typing import Any


class Llama:
    """A GGUF file. rows: sequences at once. tokens: of one sequence, at most, its reply included."""

    def __init__(self, file: str, *, rows: int, tokens: int, threads: int) -> None:
        import llama_cpp  # pyright: ignore[reportMissingImports]

        self.api: Any = llama_cpp
        self.rows = rows
        self.api.llama_backend_init()
        self.model = self.api.llama_model_load_from_file(file.encode(), self.api.llama_model_default_params())
        if not self.model:
            raise SystemExit(f"llama.cpp cannot load {file}")
        settings = self.api.llama_context_default_params()
        settings.n_seq_max = rows
        settings.n_ctx = settings.n_batch = (
            rows * 256 * -(-tokens // 256)
        )  # llama.cpp rounds a row's up to 256
        settings.n_threads = settings.n_threads_batch = threads
        self.context = self.api.llama_init_from_model(self.model, settings)
        if not self.context:
            raise SystemExit(f"llama.cpp makes no room for {rows} sequences of {tokens} tokens")
        self.memory = self.api.llama_get_memory(self.context)
        self.batch = self.api.llama_batch_init(settings.n_batch, 0, 1)
        self.greedy = self.api.llama_sampler_init_greedy()

    @property
    def described(self) -> str:
        """Architecture, size and type of the weights, as llama.cpp says them."""
        words = create_string_buffer(256)
        self.api.llama_model_desc(self.model, words, len(words))
        return words.value.decode()

    def generate(self, prompts: Sequence[Sequence[int]], new: int, *, stop: Sequence[int]) -> list[list[int]]:
        """The replies, which end with one of `stop` or after `new` tokens."""
        found: list[list[int]] = [[] for _ in prompts]
        waiting, free = deque(range(len(prompts))), list(range(self.rows))
        running: dict[int, int] = {}  # the prompt of each sequence
        while waiting or running:
            given: dict[int, tuple[int, Sequence[int]]] = {
                row: (len(prompts[i]) + len(found[i]) - 1, found[i][-1:]) for row, i in running.items()
            }
            while waiting and free:
                row, i = free.pop(), waiting.popleft()
                running[row], given[row] = i, (0, prompts[i])
            for row, token in self._decoded(given).items():
                reply = found[running[row]]
                reply.append(token)
                if token in stop or len(reply) == new:
                    self.api.llama_memory_seq_rm(self.memory, row, -1, -1)
                    free.append(row)
                    del running[row]
        return found

    def _decoded(self, given: Mapping[int, tuple[int, Sequence[int]]]) -> dict[int, int]:
        """The next token of each sequence, which gets some ids from a position on."""
        batch, place, last = self.batch, 0, dict[int, int]()
        for row, (start, ids) in given.items():
            for position, token in enumerate(ids, start):
                batch.token[place], batch.pos[place] = token, position
                batch.n_seq_id[place], batch.seq_id[place][0] = 1, row
                batch.logits[place] = position == start + len(ids) - 1
                place += 1
            last[row] = place - 1
        batch.n_tokens = place
        if code := self.api.llama_decode(self.context, batch):
            raise SystemExit(f"llama_decode gives {code} for {place} tokens of {len(given)} sequences")
        return {row: self.api.llama_sampler_sample(self.greedy, self.context, i) for row, i in last.items()}
