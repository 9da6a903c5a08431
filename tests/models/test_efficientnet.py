"""EfficientNet-Lite0 against what its package computes, and by hand."""

import pickle
import zipfile

import pytest
import torch

from turnsmith.errors import ModelError
from turnsmith.models.efficientnet import EfficientNet, Same, load


def test_it_has_the_weights_of_the_published_network():
    """4,652,008 with the classifier of 1,280 x 1,000 and its biases (tensorflow/tpu, efficientnet/lite)."""
    assert sum(one.numel() for one in EfficientNet().parameters()) == 4_652_008 - 1_281_000


def test_padding_is_tensorflows():
    """Of 4 columns at stride 2 with a kernel of 3, one column of zeros is added, behind: the first window
    sees columns 1 to 3, the second 3, 4 and the zero."""
    layer = Same(1, 1, 3, 2)
    with torch.no_grad():
        layer.weight.fill_(1)
        found = layer(torch.tensor([[1.0, 2, 3, 4]] * 4)[None, None])[0, 0]
    assert found.tolist() == [[18, 21], [12, 14]]


def test_a_grid_of_32_pixels_is_given_row_by_row():
    assert EfficientNet()(torch.zeros(2, 3, 64, 96)).shape == (2, 6, 1280)


@pytest.mark.slow
def test_what_stands_in_a_corner_shows_most_in_the_tokens_of_that_corner():
    network = load("efficientnet-lite0")
    plain = torch.full((1, 3, 128, 128), 0.9)
    for down, right in ((0, 0), (0, 1), (1, 0), (1, 1)):
        shown = plain.clone()
        top, left = 96 * down, 96 * right
        shown[0, 1:, top : top + 32, left : left + 32] = 0.1  # red
        with torch.no_grad():
            change = (network(shown) - network(plain))[0].norm(dim=1)
        assert int(change.view(2, 2, 2, 2).sum((1, 3)).argmax()) == 2 * down + right


@pytest.mark.slow
def test_features_are_those_of_the_package():
    """Computed by efficientnet-lite-pytorch 0.1.0 from the same file: `extract_features` of a ramp."""
    with torch.no_grad():
        found = load("efficientnet-lite0")(torch.linspace(0, 1, 3 * 64 * 64).view(1, 3, 64, 64))[0]
    assert found.mean().item() == pytest.approx(0.04810572, rel=1e-4)
    assert found.amax(1).tolist() == pytest.approx([4.2260, 4.3016, 3.9974, 3.9357], abs=1e-3)


def test_other_weights_are_refused(tmp_path):
    torch.save({"_conv_stem.weight": torch.zeros(1)}, tmp_path / "other.pth")
    for reference, complaint in (
        (str(tmp_path / "other.pth"), "holds no weights of EfficientNet-Lite0"),
        (str(tmp_path / "none.pth"), "holds no weights of EfficientNet-Lite0"),
        ("chitchat", "'chitchat' is shipped data, no encoder"),
    ):
        with pytest.raises(ModelError, match=complaint):
            load(reference)


class Run:
    """Unpickled by a careless reader, it leaves a file."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return (open, (str(self.mark), "w"))


def test_what_would_be_run_is_refused(tmp_path):
    torch.save({"w": Run(tmp_path / "mark")}, tmp_path / "weights.pth")
    with pytest.raises(ModelError, match="holds no weights of EfficientNet-Lite0"):
        load(str(tmp_path / "weights.pth"))
    (tmp_path / "weights.pth").write_bytes(pickle.dumps(Run(tmp_path / "mark"), protocol=2))
    with pytest.raises(ModelError, match="holds no weights of EfficientNet-Lite0"):
        load(str(tmp_path / "weights.pth"))
    assert not (tmp_path / "mark").exists()


def test_weights_that_were_packed_to_become_more_are_refused(tmp_path):
    torch.save({"w": torch.zeros(10**6)}, tmp_path / "plain.pth")
    with (
        zipfile.ZipFile(tmp_path / "plain.pth") as plain,
        zipfile.ZipFile(tmp_path / "packed.pth", "w", zipfile.ZIP_DEFLATED) as packed,
    ):
        for name in plain.namelist():
            packed.writestr(name, plain.read(name))
    with pytest.raises(ModelError, match=r"it would become 4,\d+,\d+ bytes, and torch packs nothing"):
        load(str(tmp_path / "packed.pth"))
