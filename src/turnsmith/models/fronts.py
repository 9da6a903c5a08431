"""What a language model sees: images as embeddings, in the place of ids that no vocabulary has.

A front stands in the model's input embedding, and is kept beside the model in a directory of its own. To
everything else an image is a run of ids (`album.py`), so that batches, attention, sampling and adapters are
those of text.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from turnsmith import album
from turnsmith.errors import ModelError
from turnsmith.models.bare import bare
from turnsmith.models.directory import FRONT, read_object
from turnsmith.models.efficientnet import FEATURES, STRIDE, EfficientNet

if TYPE_CHECKING:
    from transformers import PreTrainedModel

WEIGHTS, SETTINGS = "front.safetensors", "front.json"
KEPT = 4096  # images whose features are remembered: 80 kB each where one is 16 tokens
TOGETHER = 32  # images that the encoder takes at a time


class Front(nn.Module):
    """An encoder of images, and a projector of its features to embeddings: two linear layers with a GELU
    between, as in LLaVA-1.5 (arXiv:2310.03744 sec. 3.3).

    hidden: the width of the model's embeddings. size: images become squares of so many pixels, a multiple of
    32, and a token for each 32 x 32 of them. What the encoder gives for an image is remembered as long as its
    weights are what they were; where they learn it is computed anew, with gradients.
    Raises ModelError where the size cannot be.
    """

    def __init__(self, encoder: EfficientNet, hidden: int, *, size: int) -> None:
        super().__init__()
        if size <= 0 or size % STRIDE or (size // STRIDE) ** 2 > album.MOST:
            raise ModelError(f"size is {size}: images are squares of 32, 64, ... {32 * STRIDE} pixels")
        self.size, self.tokens = size, (size // STRIDE) ** 2
        self.encoder = encoder
        self.projector = nn.Sequential(nn.Linear(FEATURES, hidden), nn.GELU(), nn.Linear(hidden, hidden))
        self._known: OrderedDict[int, Tensor] = OrderedDict()
        self._by: tuple[int, ...] = ()  # the weights that these were made by

    def forward(self, ids: Tensor) -> Tensor:
        """(n, H): the embeddings of ids of images (n,), whatever their order."""
        places = ids - album.FIRST
        numbers, which = (places // album.MOST).unique(return_inverse=True)
        within = places % album.MOST
        if int(within.max()) >= self.tokens:
            raise ModelError(
                f"an image of {int(within.max()) + 1} tokens was rendered, and to this model one is "
                f"{self.tokens}: render the data with the tokenizer of this model"
            )
        features = self.features(numbers.tolist())
        return self.projector(features[which, within])

    def features(self, numbers: list[int]) -> Tensor:
        """(n, tokens, 1280) of the images with these numbers in the album."""
        weight = next(self.projector.parameters())
        learns = torch.is_grad_enabled() and any(one.requires_grad for one in self.encoder.parameters())
        if learns:
            return torch.cat(list(self._seen(numbers)))
        now = tuple(one._version for one in self.encoder.state_dict(keep_vars=True).values())
        if now != self._by:
            self._known.clear()
            self._by = now
        new = [number for number in numbers if number not in self._known]
        with torch.no_grad(), torch.autocast(weight.device.type, enabled=False):
            for number, one in zip(new, (each for some in self._seen(new) for each in some), strict=True):
                self._known[number] = one
        found = torch.stack([self._known[number] for number in numbers])
        for number in numbers:
            self._known.move_to_end(number)
        while len(self._known) > KEPT:
            self._known.popitem(last=False)
        return found

    def _seen(self, numbers: list[int]) -> Iterator[Tensor]:
        """What the encoder gives for the images, some at a time."""
        weight = self.encoder.conv_stem.weight
        for start in range(0, len(numbers), TOGETHER):
            squares = [self._square(number) for number in numbers[start : start + TOGETHER]]
            yield self.encoder(torch.stack(squares).to(weight))

    def _square(self, number: int) -> Tensor:
        """(3, S, S), from 0 to 1: the whole picture, whatever its proportions."""
        pixels = np.array(album.opened(number).resize((self.size, self.size)), np.float32) / 255
        return torch.from_numpy(pixels).permute(2, 0, 1)


class Sighted(nn.Module):
    """An input embedding that gives what `front` sees in the place of ids of images. words: that of text."""

    def __init__(self, words: nn.Module, front: Front) -> None:
        super().__init__()
        self.words, self.front = words, front

    @property
    def weight(self) -> Tensor:
        """(V, H): of the words."""
        found: Any = self.words
        return found.weight

    def forward(self, ids: Tensor) -> Tensor:
        """(..., H) of ids (...)."""
        seen = ids >= album.FIRST
        embeds = self.words(ids.masked_fill(seen, 0))
        if not bool(seen.any()):
            return embeds
        return embeds.masked_scatter(seen[..., None], self.front(ids[seen]).to(embeds.dtype))


def of(model: nn.Module) -> Front | None:
    """The model's front; None where it reads text alone."""
    embedding = _embedding(model)
    return embedding.front if isinstance(embedding, Sighted) else None


def attach(model: nn.Module, front: Front) -> None:
    """Let the model see through the front, which goes to its device."""
    found: Any = bare(model)
    words = found.get_input_embeddings()
    found.set_input_embeddings(Sighted(words, front.to(words.weight.device)))


@contextmanager
def apart(model: nn.Module) -> Iterator[Front | None]:
    """While this is open the model has no front, as other tools know it; gives the front."""
    front, found = of(model), bare(model)
    if front is None:
        yield None
        return
    whole: Any = found
    whole.set_input_embeddings(whole.get_input_embeddings().words)
    try:
        yield front
    finally:
        attach(model, front)


def write(front: Front, directory: Path) -> None:
    """Write the front into a directory of its own beside the model."""
    from safetensors.torch import save_file

    target = directory / FRONT
    target.mkdir()
    save_file({name: one.contiguous() for name, one in front.state_dict().items()}, target / WEIGHTS)
    (target / SETTINGS).write_text(json.dumps({"encoder": "efficientnet-lite0", "size": front.size}) + "\n")


def read(model: PreTrainedModel, directory: Path) -> None:
    """Attach the front that is beside the model in the directory, in eval mode. Raises ModelError where it
    does not fit or is broken."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    settings = read_object(directory / FRONT / SETTINGS)
    try:
        front = Front(EfficientNet(), _width(model), size=int(settings["size"]))
        front.load_state_dict(load_file(directory / FRONT / WEIGHTS))
    except (OSError, SafetensorError, RuntimeError, KeyError, TypeError, ValueError) as error:
        raise ModelError(
            f"the front in {directory / FRONT} does not fit its model or is broken: {error}"
        ) from error
    attach(model, front.eval())


def _width(model: nn.Module) -> int:
    embedding: Any = _embedding(model)
    return int(embedding.weight.shape[1])


def _embedding(model: nn.Module) -> nn.Module:
    found: Any = bare(model)
    return found.get_input_embeddings()
