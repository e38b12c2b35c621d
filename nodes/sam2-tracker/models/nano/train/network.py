"""TrackLens-nano: the four modules of docs/models.md.

The embedding (stride 16) carries image features and, packed four to a cell, unit-length matching keys of stride 8. A memory
holds for each cell: a key, a value that knows the mask, the stride-8 keys, and the mask at stride 4 packed 16 to a cell.
Memory attention reads twice: all memories at stride 16 (softmax over similarity, age and distance), and the newest frame's
stride-8 cells in a window around each place, which carries the mask's fine outline from frame to frame.
"""
import math

import torch
import torch.nn.functional as F
from torch import nn

from backbone import Backbone, Conv, Detector

FEATURES, KEY8 = 80, 12            # embedding: 80 features, 12 keys x 4 cells
C = FEATURES + 4 * KEY8            # 128
FUSED, FINE = 104, 6               # conditioned embedding: 104 features, 6 x 4 cells
KEY, VALUE, MASK = 48, 64, 16
CM = KEY + VALUE + 4 * KEY8 + MASK  # 176
HIGH0, HIGH1 = 16, 48
BOX = 5                            # further channels of high_res_1: the detector's box and score for each place
WIDE = 96                          # decoder's channels at stride 16
CANDIDATES = 4
TIMES = 8                          # memory_time is clipped to 0 .. TIMES-1
ABSENT = -1e4
assert FUSED + 4 * FINE == C


def conv(cin, cout, k=1, groups=1):
    return nn.Conv2d(cin, cout, k, 1, k // 2, groups=groups)


def unit(x, dim=1):
    """Unit length along dim; a zero vector stays zero."""
    return x * torch.rsqrt((x * x).sum(dim, keepdim=True) + 1e-6)


def pack(x):
    return F.pixel_unshuffle(x, 2)


def unpack(x):
    return F.pixel_shuffle(x, 2)


def upsample(x):
    return F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)


class Residual(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.a, self.b = conv(c, c, 3), conv(c, c, 3)
        nn.init.normal_(self.b.weight, std=1e-3)

    def forward(self, x):
        return F.relu(x + self.b(F.relu(self.a(x))))


class Mixer(nn.Module):
    """Depthwise 5x5 and two pointwise layers, residual."""

    def __init__(self, c):
        super().__init__()
        self.depth, self.a, self.b = conv(c, c, 5, c), conv(c, 2 * c), conv(2 * c, c)
        nn.init.normal_(self.b.weight, std=1e-3)

    def forward(self, x):
        return x + self.b(F.relu(self.a(self.depth(x))))


class Key(nn.Module):
    """Unit-length stride-16 key from the embedding's features."""

    def __init__(self):
        super().__init__()
        self.proj = conv(FEATURES, KEY)

    def forward(self, embedding):
        return unit(self.proj(embedding[:, :FEATURES]))


class Fuse(nn.Module):
    """Image features, what memory says of each cell, and the fine reading, into what the decoder gets."""

    def __init__(self):
        super().__init__()
        self.image, self.read, self.here = conv(FEATURES, FUSED), conv(VALUE, FUSED), conv(VALUE, FUSED)
        self.out = conv(FUSED, FUSED)
        self.nothing = nn.Parameter(torch.zeros(1, FUSED, 1, 1))  # in place of the readings where there is no memory

    def forward(self, embedding, read=None, here=None, fine=None):
        x = self.image(embedding[:, :FEATURES])
        if read is None:
            x = x + self.nothing
            fine = torch.zeros_like(embedding[:, : 4 * FINE])
        else:
            x = x + self.read(read) + self.here(here)
        return torch.cat([self.out(F.relu(x)), fine], 1)


class ImageEncoder(nn.Module):
    def __init__(self, fuse):
        super().__init__()
        self.backbone = Backbone()
        self.mid = Conv(128, 64)
        self.high0 = nn.Sequential(Conv(32, 24, 3), conv(24, HIGH0, 3))
        self.high1 = conv(64, HIGH1, 3)
        self.key8 = conv(64, KEY8, 3)
        self.down = nn.Conv2d(64, FEATURES, 3, 2, 1)
        self.top = conv(128, FEATURES)
        self.mix = Mixer(FEATURES)
        self.fuse = fuse
        self.detector = Detector()
        # these two stay as they were trained on COCO: so the boxes stay right, and a step costs a third less
        self.backbone.requires_grad_(False)
        self.detector.requires_grad_(False)

    def forward(self, image):
        d2, d3, p3, n3, l5 = self.backbone(image)
        mid = self.mid(torch.cat([d3, p3], 1))
        features = self.mix(F.relu(self.top(n3) + self.down(mid)))
        embedding = torch.cat([features, pack(unit(self.key8(mid)))], 1)
        high1 = torch.cat([self.high1(mid), Detector.grid(self.detector(p3, n3, l5))], 1)
        return embedding, self.fuse(embedding), self.high0(d2), high1


class MemoryAttention(nn.Module):
    BLOCK = 4  # local reading: queries in blocks of 4x4 stride-8 cells, keys in the 12x12 cells around

    def __init__(self, key, fuse):
        super().__init__()
        self.key, self.fuse = key, fuse
        self.scale = nn.Parameter(torch.tensor(math.log(12.0)))
        self.scale8 = nn.Parameter(torch.tensor(math.log(10.0)))
        self.age = nn.Parameter(torch.zeros(TIMES))
        # Gaussian prior of place by age, in units of the image's height: a memory's cell speaks for places near it
        self.near = nn.Parameter(torch.tensor([-1.0] + [1.0] + [0.0] * (TIMES - 2)))
        b = self.BLOCK
        ky, kx = torch.meshgrid(torch.arange(3 * b) - b, torch.arange(3 * b) - b, indexing="ij")
        qy, qx = torch.meshgrid(torch.arange(b), torch.arange(b), indexing="ij")
        self.register_buffer("dy", ky.flatten()[None] - qy.flatten()[:, None], persistent=False)
        self.register_buffer("dx", kx.flatten()[None] - qx.flatten()[:, None], persistent=False)
        r = 2 * b - 1
        d2 = torch.arange(-r, r + 1).float() ** 2
        self.offset = nn.Parameter(-0.05 * (d2[:, None] + d2[None]))  # bias by displacement in stride-8 cells

    def forward(self, embedding, memory, memory_time):
        """embedding 1xC or BxC; memory B x M x Cm x h x w; memory_time B x M."""
        h, w = embedding.shape[-2:]
        present = (memory_time >= 0).to(memory.dtype)
        time = memory_time.clamp(0, TIMES - 1)
        read = self.read_all(embedding, memory, time, present)
        # the newest frame: time 1, or the conditioning frame right after it
        rank = present * ((memory_time == 1).to(memory.dtype) * 2 + (memory_time == 0).to(memory.dtype) + 0.1)
        newest = torch.argmax(rank, 1)
        pick = (torch.arange(memory.shape[1], device=memory.device)[None] == newest[:, None]).to(memory.dtype)
        last = (memory[:, :, KEY:] * pick[:, :, None, None, None]).sum(1)
        here, k8, mask = last.split([VALUE, 4 * KEY8, MASK], 1)
        fine = pack(self.read_near(unpack(embedding[:, FEATURES:]), unpack(k8), unpack(mask)))
        return self.fuse(embedding, read, here, fine)

    def read_all(self, embedding, memory, time, present):
        h, w = embedding.shape[-2:]
        n = h * w
        dev = memory.device
        ys, xs = torch.meshgrid(torch.arange(h, device=dev) / h, torch.arange(w, device=dev) / h, indexing="ij")
        xy = torch.stack([xs.flatten(), ys.flatten()]).to(memory.dtype)  # 2 x n
        sq = (xy * xy).sum(0, keepdim=True)
        one = torch.ones_like(sq)
        # -c|p - q|^2 and the bias as four more channels of the dot product
        q = self.key(embedding).flatten(2) * self.scale.exp()
        q = torch.cat([q, torch.cat([2 * xy, one, sq])[None].expand(q.shape[0], -1, -1)], 1)
        c = (self.near[time].exp() * present)[:, None, :, None]
        bias = (self.age[time] * present + ABSENT * (1 - present))[:, None, :, None]
        k = memory[:, :, :KEY].flatten(3).transpose(1, 2)  # B x KEY x M x n
        place = torch.cat([c * xy[None, :, None], bias - c * sq[None, :, None], -c * one[None, :, None]], 1)
        k = torch.cat([k, place], 1).flatten(2)
        v = memory[:, :, KEY : KEY + VALUE].flatten(3).transpose(2, 3).flatten(1, 2)  # B x Mn x VALUE
        weights = torch.matmul(q.transpose(1, 2), k).softmax(-1)
        return torch.matmul(weights, v).transpose(1, 2).unflatten(2, (h, w))

    def read_near(self, q, k, mask):
        """q 1xKEY8 or BxKEY8, k BxKEY8, mask Bx4, all x H x W of stride 8, into BxFINExHxW."""
        b = self.BLOCK
        height, width = k.shape[-2:]
        nh, nw = height // b, width // b
        inside = torch.ones_like(k[:1, :1])
        keys = self.windows(torch.cat([k, mask], 1), nh, nw)          # B x nh x nw x (KEY8+4) x 144
        inside = self.windows(inside, nh, nw)                         # 1 x nh x nw x 1 x 144
        q = q.unflatten(3, (nw, b)).unflatten(2, (nh, b)).permute(0, 2, 4, 3, 5, 1).flatten(3, 4)  # . x nh x nw x 16 x KEY8
        r = 2 * b - 1
        offset = self.offset[self.dy + r, self.dx + r]
        a = torch.matmul(q * self.scale8.exp(), keys[:, :, :, :KEY8])
        weights = (a + offset + (1 - inside) * ABSENT).softmax(-1)
        read = torch.matmul(weights, keys[:, :, :, KEY8:].transpose(3, 4))  # B x nh x nw x 16 x 4
        best = (a + (1 - inside) * ABSENT).amax(-1, keepdim=True) / self.scale8.exp()
        out = torch.cat([read, best], -1).unflatten(3, (b, b)).permute(0, 5, 1, 3, 2, 4).flatten(4, 5).flatten(2, 3)
        return torch.cat([out, mask.mean(1, keepdim=True)], 1)

    def windows(self, x, nh, nw):
        b = self.BLOCK
        x = F.pad(x, (b, b, b, b)).unflatten(3, (nw + 2, b)).unflatten(2, (nh + 2, b))  # B c nh+2 b nw+2 b
        rows = torch.cat([x[:, :, i : i + nh] for i in range(3)], 3)
        both = torch.cat([rows[:, :, :, :, i : i + nw] for i in range(3)], 5)            # B c nh 3b nw 3b
        return both.permute(0, 2, 4, 1, 3, 5).flatten(4, 5)


class MaskDecoder(nn.Module):
    PROMPT = 9
    GROUPS = 8
    CUE = 4

    def __init__(self):
        super().__init__()
        p, g = self.PROMPT, self.GROUPS
        self.in16, self.prompt16, self.like16 = conv(FUSED, WIDE), conv(p, WIDE, 3), conv(g, WIDE)
        self.mix16 = nn.Sequential(*(Mixer(WIDE) for _ in range(3)))
        self.context = nn.Linear(2 * WIDE, WIDE)
        self.to8, self.prompt8, self.fine8 = conv(WIDE, HIGH1), conv(p + g, HIGH1, 3), conv(FINE, HIGH1, 3)
        self.cue16, self.cue8 = conv(self.CUE, WIDE, 3), conv(self.CUE, HIGH1, 3)
        self.res8 = Residual(HIGH1)
        self.to4, self.mask4 = conv(HIGH1, HIGH0), conv(2, HIGH0, 3)
        self.res4 = Residual(HIGH0)
        self.out = conv(HIGH0, CANDIDATES, 3)
        nn.init.constant_(self.out.bias, -2.0)
        self.iou_in, self.iou_out = nn.Linear(WIDE + HIGH1 + CANDIDATES + 1, 64), nn.Linear(64, 1)
        self.score_in, self.score_out = nn.Linear(2 * WIDE + 2, 64), nn.Linear(64, 1)

    def prompt_maps(self, coords, labels, mask_prompt, has_mask, height, width):
        """Prompts as B x PROMPT x H/8 x W/8 maps: points at two widths, the box, the mask, and what was given."""
        dev = coords.device
        ys = (torch.arange(height, device=dev).to(coords.dtype) + 0.5)[None, None, :, None]
        xs = (torch.arange(width, device=dev).to(coords.dtype) + 0.5)[None, None, None, :]
        x, y = coords[:, :, 0, None, None] / 8, coords[:, :, 1, None, None] / 8
        d2 = (ys - y) ** 2 + (xs - x) ** 2                                        # B x P x H x W
        is_ = [(labels == i).to(coords.dtype)[:, :, None, None] for i in range(4)]
        maps = []
        for label in (1, 0):
            for width2 in (2.0, 24.0):
                maps.append((torch.exp(-d2 / width2) * is_[label]).amax(1, keepdim=True))
        # a box's corners: +1 right of and below the first, left of and above the second
        soft = lambda t: torch.sigmoid(4 * t)
        first = (soft(xs - x) * soft(ys - y) * is_[2]).sum(1, keepdim=True)
        second = (soft(x - xs) * soft(y - ys) * is_[3]).sum(1, keepdim=True)
        maps.append(first * second)
        zero = torch.zeros_like(maps[0])
        maps.append(zero + (is_[2].amax(1, keepdim=True)))
        maps.append(zero + (torch.maximum(is_[1], is_[0]).amax(1, keepdim=True)))
        given = has_mask[:, None, None, None]
        maps.append(F.avg_pool2d(mask_prompt, 2))
        maps.append(zero + given)
        return torch.cat(maps, 1)

    def extent(self, boxes, coords, labels, height, width):
        """How far the thing may reach, B x CUE x H/8 x W/8: the prompt's box, or else the detector's best box that holds all
        object points and no background point. Maps: inside, strength, place within the box across and down."""
        dt, dev = coords.dtype, coords.device
        points = coords / 64
        is_ = [(labels == i).to(dt) for i in range(4)]
        l, t, r, b, score = boxes.flatten(2).split(1, 1)                            # 1 x 1 x N
        x, y = points[:, :, 0, None], points[:, :, 1, None]                         # B x P x 1
        inside = ((x > l) & (x < r) & (y > t) & (y < b)).to(dt)                     # B x P x N
        object_, ground = is_[1][:, :, None], is_[0][:, :, None]
        fits = (object_ * inside + ground * (1 - inside) + (1 - object_ - ground)).amin(1)
        count = is_[1].sum(1)                                                       # B
        mx, my = ((points[:, :, i] * is_[1]).sum(1, keepdim=True) / count.clamp(min=1)[:, None] for i in (0, 1))
        l, t, r, b, score = (v[:, 0] for v in (l, t, r, b, score))                  # 1 x N
        off = ((mx - (l + r) / 2) / (r - l + 0.05)) ** 2 + ((my - (t + b) / 2) / (b - t + 0.05)) ** 2
        value = score * fits * torch.exp(-2 * off)                                  # B x N
        best = torch.argmax(value, 1, keepdim=True)
        found = [torch.gather(v + torch.zeros_like(value), 1, best) for v in (l, t, r, b)]
        strength = torch.gather(score + torch.zeros_like(value), 1, best) * torch.gather(fits, 1, best) * (count > 0).to(dt)[:, None]
        boxed = is_[2].amax(1, keepdim=True) * is_[3].amax(1, keepdim=True)
        given = [(points[:, :, 0] * is_[2]).sum(1, keepdim=True), (points[:, :, 1] * is_[2]).sum(1, keepdim=True),
                 (points[:, :, 0] * is_[3]).sum(1, keepdim=True), (points[:, :, 1] * is_[3]).sum(1, keepdim=True)]
        l, t, r, b = (((g * boxed + f * (1 - boxed)) * 8)[:, :, None, None] for g, f in zip(given, found))
        strength = torch.maximum(strength, boxed)[:, :, None, None]
        ys = (torch.arange(height, device=dev).to(dt) + 0.5)[None, None, :, None]
        xs = (torch.arange(width, device=dev).to(dt) + 0.5)[None, None, None, :]
        soft = lambda v: torch.sigmoid(3 * v)
        across = ((xs - (l + r) / 2) / ((r - l).clamp(min=1) / 2)).clamp(-2, 2)
        down = ((ys - (t + b) / 2) / ((b - t).clamp(min=1) / 2)).clamp(-2, 2)
        one = torch.ones_like(across * down)
        return torch.cat([soft(xs - l) * soft(r - xs) * soft(ys - t) * soft(b - ys), one, across * one, down * one], 1) * strength

    def likeness(self, features, weight):
        """Cosine likeness, in groups of channels, of each place to the weighted mean place (a pointed-at thing)."""
        g = self.GROUPS
        f = unit(features.unflatten(1, (g, -1)), 2)                          # B g c H W
        total = weight.sum((2, 3), keepdim=True)[:, None]
        mean = (f * weight[:, None]).sum((3, 4), keepdim=True) / (total + 1e-4)
        return (f * unit(mean, 2)).sum(2) * (total[:, 0] > 1e-3).to(f.dtype)

    def forward(self, embedding, high_res_0, high_res_1, point_coords, point_labels, mask_prompt, has_mask):
        height, width = high_res_1.shape[-2:]
        high_res_1, boxes = high_res_1.split([HIGH1, BOX], 1)
        cue = self.extent(boxes, point_coords, point_labels, height, width)
        given = torch.sigmoid(mask_prompt.clamp(-20, 20)) * has_mask[:, None, None, None]
        maps = self.prompt_maps(point_coords, point_labels, given, has_mask, height, width)
        fused, fine = embedding.split([FUSED, 4 * FINE], 1)
        fine = unpack(fine)
        maps16 = F.avg_pool2d(maps, 2)
        # the place pointed at: the points' narrow map, or the mask prompt's inside
        like16 = self.likeness(fused, maps16[:, :1] + maps16[:, 7:8])
        like8 = self.likeness(high_res_1 + torch.zeros_like(maps[:, :1]), maps[:, :1] + maps[:, 7:8])
        x16 = F.relu(self.in16(fused) + self.prompt16(maps16) + self.like16(like16) + self.cue16(F.avg_pool2d(cue, 2)))
        x16 = self.mix16(x16)
        pooled = torch.cat([x16.mean((2, 3)), x16.amax((2, 3))], 1)
        x16 = F.relu(x16 + self.context(pooled)[:, :, None, None])
        x8 = upsample(self.to8(x16)) + high_res_1 + self.prompt8(torch.cat([maps, like8], 1)) + self.fine8(fine) + self.cue8(cue)
        x8 = self.res8(F.relu(x8))
        x4 = upsample(self.to4(x8)) + high_res_0 + self.mask4(torch.cat([given, F.pixel_shuffle(fine[:, :4], 2)], 1))
        x4 = self.res4(F.relu(x4))
        logits = self.out(x4)

        inside = F.avg_pool2d(torch.sigmoid(logits), 2)                      # B N H/8 W/8
        area = inside.sum((2, 3)) + 1e-3                                     # B N
        sharp = F.avg_pool2d(torch.sigmoid(4 * logits), 2).sum((2, 3)) / area
        pool8 = lambda f: torch.matmul(inside.flatten(2), f.flatten(2).transpose(1, 2)) / area[:, :, None]
        one_hot = torch.eye(CANDIDATES, device=logits.device, dtype=logits.dtype)[None] + torch.zeros_like(area)[:, :, None]
        summary = pooled[:, None, :WIDE] + torch.zeros_like(area)[:, :, None]
        quality = torch.cat([summary, pool8(x8), one_hot, sharp[:, :, None]], 2)
        iou = torch.sigmoid(self.iou_out(F.relu(self.iou_in(quality))))[:, :, 0]
        peak = logits[:, :1].amax((2, 3)).clamp(-20, 20) * 0.1
        score = self.score_out(F.relu(self.score_in(torch.cat([pooled, peak, torch.log(area[:, :1])], 1))))
        # pointer: what the object looks like (for recognising it again; this network's attention does not need it)
        pointers = torch.cat([pool8(high_res_1 + torch.zeros_like(maps[:, :1])), pool8(upsample(fused[:, :FEATURES]))], 2)
        return logits, iou, pointers * (score > 0).to(pointers.dtype)[:, :, None], score


class MemoryEncoder(nn.Module):
    def __init__(self, key):
        super().__init__()
        self.key = key
        self.image, self.masked, self.mask = conv(FEATURES, VALUE), conv(FEATURES, VALUE), conv(MASK, VALUE, 3)
        self.kind = nn.Parameter(torch.zeros(2, VALUE))  # from a prompt; object gone
        self.mix = Mixer(VALUE)
        self.out = conv(VALUE, VALUE)

    def forward(self, embedding, mask_logits, object_score, from_prompt):
        """embedding 1xC or BxC; mask_logits of any size."""
        h, w = embedding.shape[-2:]
        prompted = from_prompt[:, None, None, None]
        hard = (mask_logits > 0).to(mask_logits.dtype)
        mask = hard * prompted + torch.sigmoid(mask_logits.clamp(-20, 20)) * (1 - prompted)
        mask = F.interpolate(mask, size=(4 * h, 4 * w), mode="bilinear", align_corners=False, antialias=True)
        there = (object_score > 0).to(mask.dtype)[:, :, None, None]
        return self.encode(embedding, mask * there, there, prompted)

    def encode(self, embedding, mask, there, prompted):
        """mask B x 1 x 4h x 4w in 0..1."""
        features = embedding[:, :FEATURES]
        cells = F.pixel_unshuffle(mask, 4)
        fraction = cells.mean(1, keepdim=True)
        x = self.image(features) + self.masked(features * fraction) + self.mask(cells)
        x = x + self.kind[0][None, :, None, None] * prompted + self.kind[1][None, :, None, None] * (1 - there)
        value = self.out(F.relu(self.mix(F.relu(x))))
        same = torch.zeros_like(fraction)
        return torch.cat([self.key(embedding) + same, value, embedding[:, FEATURES:] + same, cells], 1)


class Nano(nn.Module):
    def __init__(self):
        super().__init__()
        key, fuse = Key(), Fuse()
        self.image_encoder = ImageEncoder(fuse)
        self.memory_attention = MemoryAttention(key, fuse)
        self.mask_decoder = MaskDecoder()
        self.memory_encoder = MemoryEncoder(key)


if __name__ == "__main__":
    net = Nano()
    print({n: sum(p.numel() for p in m.parameters()) for n, m in net.named_children()}, "total", sum(p.numel() for p in net.parameters()))
