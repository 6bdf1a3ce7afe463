"""Convolutions one after the other, as lists of plain modules."""

from torch import nn

from costate.architectures.images import channels_of
from costate.core.types import Shape


def vgg8b(shape: Shape, outputs: int, width: int = 128, dropout: float = 0.0) -> nn.Sequential:
    """Six convolutions and two dense layers, a module each; 8.9 million parameters for pictures of 32 × 32.

    Nøkland & Eidnes (2019), Training neural networks with local error signals, 1901.06656, appendix A. Pictures whose
    sides are no multiples of 16 keep their borders.

    Args:
        width: of the first convolution.
        dropout: share of values that a hidden layer leaves out in training.
    """
    before, layers = channels_of("vgg8b", shape), []
    for times, pools in ((1, False), (2, True), (2, False), (4, True), (4, True), (4, True)):
        parts = [nn.Conv2d(before, times * width, 3, padding=1), nn.BatchNorm2d(times * width), nn.ReLU()]
        pooling = [nn.MaxPool2d(2, ceil_mode=True)] if pools else []
        layers.append(nn.Sequential(*parts, *pooling, nn.Dropout2d(dropout)))
        before = times * width
    height, breadth = (-(-side // 16) for side in shape[1:])
    hidden = [nn.Flatten(), nn.Linear(before * height * breadth, 8 * width), nn.BatchNorm1d(8 * width), nn.ReLU()]
    return nn.Sequential(*layers, nn.Sequential(*hidden, nn.Dropout(dropout)), nn.Linear(8 * width, outputs))
