"""YOLOX-nano (width 0.25, depthwise) as backbone and source of boxes, started from its ONNX file.

The published file has its batch normalisation folded into the convolutions, so the module here has none. The input is the
tracker's (RGB, normalised by mean and std); YOLOX was trained on BGR 0..255, so that change of scale is folded into the
first convolution, together with the "focus" slicing, which makes it one 6x6 convolution of stride 2.
"""
import torch
import torch.nn.functional as F
from torch import nn

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


class Conv(nn.Module):
    """Convolution with bias and SiLU."""

    def __init__(self, cin, cout, k=1, stride=1, groups=1, pad=None):
        super().__init__()
        self.conv = nn.Conv2d(cin, cout, k, stride, k // 2 if pad is None else pad, groups=groups)

    def forward(self, x):
        return F.silu(self.conv(x))


class Separable(nn.Sequential):
    """Depthwise 3x3, then pointwise."""

    def __init__(self, cin, cout, stride=1):
        super().__init__(Conv(cin, cin, 3, stride, cin), Conv(cin, cout))


class Bottleneck(nn.Module):
    def __init__(self, c, shortcut):
        super().__init__()
        self.conv1, self.conv2, self.shortcut = Conv(c, c), Separable(c, c), shortcut

    def forward(self, x):
        y = self.conv2(self.conv1(x))
        return x + y if self.shortcut else y


class CSP(nn.Module):
    def __init__(self, cin, cout, n=1, shortcut=True):
        super().__init__()
        c = cout // 2
        self.conv1, self.conv2 = Conv(cin, c), Conv(cin, c)
        self.m = nn.Sequential(*(Bottleneck(c, shortcut) for _ in range(n)))
        self.conv3 = Conv(2 * c, cout)

    def forward(self, x):
        return self.conv3(torch.cat([self.m(self.conv1(x)), self.conv2(x)], 1))


class SPP(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.conv1, self.conv2 = Conv(c, c // 2), Conv(2 * c, c)

    def forward(self, x):
        x = self.conv1(x)
        return self.conv2(torch.cat([x] + [F.max_pool2d(x, k, 1, k // 2) for k in (5, 9, 13)], 1))


class Backbone(nn.Module):
    """Image to features: dark2 (32, stride 4), dark3 (64, stride 8), p3 (64, stride 8), n3 (128, stride 16)."""

    def __init__(self):
        super().__init__()
        # in the order of the ONNX file
        self.stem = Conv(3, 16, 6, 2, pad=2)
        self.dark2 = nn.Sequential(Separable(16, 32, 2), CSP(32, 32, 1))
        self.dark3 = nn.Sequential(Separable(32, 64, 2), CSP(64, 64, 3))
        self.dark4 = nn.Sequential(Separable(64, 128, 2), CSP(128, 128, 3))
        self.dark5 = nn.Sequential(Separable(128, 256, 2), SPP(256), CSP(256, 256, 1, False))
        self.lateral0 = Conv(256, 128)
        self.p4 = CSP(256, 128, 1, False)
        self.reduce1 = Conv(128, 64)
        self.p3 = CSP(128, 64, 1, False)
        self.down2 = Separable(64, 64, 2)
        self.n3 = CSP(128, 128, 1, False)

    def forward(self, x):
        d2 = self.dark2(self.stem(x))
        d3 = self.dark3(d2)
        d4 = self.dark4(d3)
        l5 = self.lateral0(self.dark5(d4))
        up = lambda t: F.interpolate(t, scale_factor=2, mode="nearest")
        r4 = self.reduce1(self.p4(torch.cat([up(l5), d4], 1)))
        p3 = self.p3(torch.cat([up(r4), d3], 1))
        n3 = self.n3(torch.cat([self.down2(p3), r4], 1))
        return d2, d3, p3, n3, l5


class Head(nn.Module):
    """YOLOX's head for one level: class scores, box, objectness."""

    def __init__(self, cin):
        super().__init__()
        self.stem = Conv(cin, 64)
        self.cls_convs = nn.Sequential(Separable(64, 64), Separable(64, 64))
        self.cls = nn.Conv2d(64, 80, 1)
        self.reg_convs = nn.Sequential(Separable(64, 64), Separable(64, 64))
        self.reg, self.obj = nn.Conv2d(64, 4, 1), nn.Conv2d(64, 1, 1)

    def forward(self, x):
        x = self.stem(x)
        reg = self.reg_convs(x)
        # the best class matters here, not which it is
        score = torch.sigmoid(self.obj(reg)) * torch.sigmoid(self.cls(self.cls_convs(x)).amax(1, keepdim=True))
        return self.reg(reg), score


class Detector(nn.Module):
    """The rest of YOLOX: boxes of things, which tell a click how far the thing under it may reach."""

    def __init__(self):
        super().__init__()
        self.down1, self.n4 = Separable(128, 128, 2), CSP(256, 256, 1, False)
        self.heads = nn.ModuleList([Head(64), Head(128), Head(256)])

    def forward(self, p3, n3, l5):
        n4 = self.n4(torch.cat([self.down1(n3), l5], 1))
        return [head(x) for head, x in zip(self.heads, (p3, n3, n4))]

    @staticmethod
    def grid(raw):
        """For each stride-8 cell the box of the best level there: left, top, right, bottom in 64 pixels, and its score."""
        best, height, width = None, raw[0][0].shape[2], raw[0][0].shape[3]
        for (reg, score), stride in zip(raw, (8, 16, 32)):
            h, w = reg.shape[-2:]
            ys = torch.arange(h, device=reg.device, dtype=reg.dtype)[None, :, None]
            xs = torch.arange(w, device=reg.device, dtype=reg.dtype)[None, None, :]
            cx, cy = (reg[:, 0] + xs) * (stride / 64), (reg[:, 1] + ys) * (stride / 64)
            rw, rh = reg[:, 2].clamp(-4, 4).exp() * (stride / 128), reg[:, 3].clamp(-4, 4).exp() * (stride / 128)
            level = torch.cat([torch.stack([cx - rw, cy - rh, cx + rw, cy + rh], 1), score], 1)
            if stride > 8:
                level = F.interpolate(level, scale_factor=float(stride // 8), mode="nearest")
            best = level if best is None else torch.where(level[:, 4:] > best[:, 4:], level, best)
        return best


@torch.no_grad()
def load_yolox(backbone, detector, path):
    """Weights from yolox_nano.onnx, whose convolutions come in the order of these modules'."""
    import onnx
    from onnx import numpy_helper

    graph = onnx.load(path).graph
    weights = {i.name: torch.from_numpy(numpy_helper.to_array(i).copy()) for i in graph.initializer}
    convs = [(weights[n.input[1]], weights[n.input[2]]) for n in graph.node if n.op_type == "Conv"]
    mine = [m for part in (backbone, detector) for m in part.modules() if isinstance(m, nn.Conv2d)]
    if len(mine) != len(convs):
        raise ValueError(f"{path}: {len(convs)} convolutions where {len(mine)} are expected: is it yolox_nano.onnx?")
    for conv, (w, b) in zip(mine[1:], convs[1:]):
        if conv.weight.shape != w.shape:
            raise ValueError(f"{path}: convolution {tuple(w.shape)} where {tuple(conv.weight.shape)} is expected")
        conv.weight.copy_(w)
        conv.bias.copy_(b)
    w, b = convs[0]
    stem = torch.zeros_like(mine[0].weight)
    # focus: channel groups are the pixels (row, column) of each 2x2 cell in this order
    for group, (dy, dx) in enumerate(((0, 0), (1, 0), (0, 1), (1, 1))):
        stem[:, :, dy::2, dx::2] = w[:, 3 * group : 3 * group + 3]
    stem = stem.flip(1)  # BGR to RGB
    mean, std = torch.tensor(MEAN), torch.tensor(STD)
    mine[0].bias.copy_(b + (stem * (255 * mean)[None, :, None, None]).sum((1, 2, 3)))
    mine[0].weight.copy_(stem * (255 * std)[None, :, None, None])


if __name__ == "__main__":  # compare with ONNX Runtime
    import sys

    import numpy as np
    import onnx
    import onnxruntime as ort

    model = onnx.load(sys.argv[1])
    ends = [n.output[0] for n in model.graph.node if n.op_type == "Mul" and n.output[0] in (
        "/backbone/backbone/dark2/dark2.1/conv3/act/Mul_output_0", "/backbone/C3_p3/conv3/act/Mul_output_0", "/backbone/C3_n3/conv3/act/Mul_output_0")]
    for e in ends:
        model.graph.output.append(onnx.helper.make_empty_tensor_value_info(e))
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    net, detector = Backbone().eval(), Detector().eval()
    load_yolox(net, detector, sys.argv[1])
    rgb = torch.rand(1, 3, 416, 416)
    theirs = session.run(ends + ["output"], {"images": (rgb.flip(1) * 255).numpy()})
    x = (rgb - torch.tensor(MEAN)[None, :, None, None]) / torch.tensor(STD)[None, :, None, None]
    # YOLOX pads its first convolution with black, ours with the mean colour: pad by hand to compare
    black = ((0 - torch.tensor(MEAN)) / torch.tensor(STD))[None, :, None, None].expand(1, 3, 420, 420).clone()
    black[:, :, 2:-2, 2:-2] = x
    net.stem.conv.padding = (0, 0)
    with torch.no_grad():
        d2, _, p3, n3, l5 = net(black)
        raw = detector(p3, n3, l5)
    boxes = theirs.pop()[0]
    score = np.concatenate([r[1].flatten().numpy() for r in raw])
    print("scores, max difference", np.abs(score - boxes[:, 4] * boxes[:, 5:].max(1)).max(), "boxes", np.abs(raw[1][0].flatten(2)[0].T.numpy() - boxes[2704:3380, :4]).max())
    for name, a, b in zip(("dark2", "p3", "n3"), (d2, p3, n3), theirs):
        print(name, tuple(a.shape), "max difference", np.abs(a.numpy() - b).max(), "of", np.abs(b).max())
