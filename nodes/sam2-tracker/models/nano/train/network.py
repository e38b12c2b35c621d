"""TrackLens-nano: the four modules of docs/models.md.

The embedding (stride 16) carries image features and, packed four to a cell, unit-length matching keys of stride 8. A memory
holds, one after the other, each as the attention multiplies it: keys (KEY rows of cells), values that know the mask (a row of
VALUE for each cell), and of each stride-8 cell its key and four cells of the mask at stride 4.
Memory attention reads twice: all memories at stride 16 (softmax over similarity, age and distance), and the newest frame's
stride-8 cells in a window around each place, which carries the mask's fine outline from frame to frame. Keys are the frame's,
not the object's: what a frame is like to another is found once for all objects that remember it.
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
CHUNK = 16                         # channels of a memory that are fetched together; divides all of them
HIGH0, HIGH1 = 16, 48
P3, N3, L5 = 64, 128, 128          # further channels of high_res_1, at strides 8, 16 and 32: what the detector looks at
SCALES = P3 + N3 // 4 + L5 // 16   # these as channels of stride 8
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


def either(condition, yes, no, operands):
    """yes(*operands) or no(*operands); in an exported graph, only what holds is computed."""
    if torch.compiler.is_exporting():
        return torch.cond(condition, yes, no, operands)
    return yes(*operands) if condition else no(*operands)


def upsample(x):
    return F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)


def shares(n, like):
    """n x 2n: what share of each cell the cells of twice the resolution have in `upsample`."""
    place = ((torch.arange(2 * n, device=like.device) + 0.5) / 2 - 0.5).clamp(0, n - 1)
    return (1 - (place[None] - torch.arange(n, device=like.device)[:, None]).abs()).clamp(min=0).to(like.dtype)


def places(h, w, like):
    """x, y, 1 and x^2 + y^2 of each cell, 4 x h x w, in units of the image's height."""
    ys, xs = torch.meshgrid(torch.arange(h, device=like.device) / h, torch.arange(w, device=like.device) / h, indexing="ij")
    return torch.stack([xs, ys, torch.ones_like(xs), xs * xs + ys * ys]).to(like.dtype)


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

    def forward(self, embedding):
        """Without a memory."""
        x = self.image(embedding[:, :FEATURES]) + self.nothing
        return torch.cat([self.out(F.relu(x)), torch.zeros_like(embedding[:, : 4 * FINE])], 1)

    def memories(self, embedding, read, here, fine):
        """read and here B x n x VALUE, fine B x 4 FINE x h x w."""
        flat = lambda layer: layer.weight[:, :, 0, 0]
        bias = self.image.bias + self.read.bias + self.here.bias
        x = F.linear(embedding[:, :FEATURES].flatten(2).transpose(1, 2), flat(self.image), bias)
        x = F.relu(x + F.linear(torch.cat([read, here], 2), torch.cat([flat(self.read), flat(self.here)], 1)))
        x = torch.matmul(flat(self.out), x.transpose(1, 2)) + self.out.bias[:, None]
        return torch.cat([x.unflatten(2, embedding.shape[-2:]), fine], 1)


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
        # it stays as it was trained on COCO: so the detector's boxes stay right, and a step costs a third less
        self.backbone.requires_grad_(False)

    def forward(self, image):
        d2, d3, p3, n3, l5 = self.backbone(image)
        mid = self.mid(torch.cat([d3, p3], 1))
        features = self.mix(F.relu(self.top(n3) + self.down(mid)))
        embedding = torch.cat([features, pack(unit(self.key8(mid)))], 1)
        high1 = torch.cat([self.high1(mid), p3, *(t.reshape(t.shape[0], -1, *p3.shape[2:]) for t in (n3, l5))], 1)
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

    def forward(self, embedding, memory, memory_time, frames=None, memory_frame=None, newest=None, newest_frame=None):
        """embedding 1xC or BxC; memory B x M x Cm x h x w; memory_time B x M.

        Which memories are of the same frame and time: frames S, a memory of each, counted b * M + m; memory_frame B x M, which
        of them a memory is of; newest T and newest_frame B, the same of each object's newest memory alone. Left out: no two."""
        b, m = memory.shape[:2]
        present = (memory_time >= 0).to(memory.dtype)
        # the newest frame: time 1, or the conditioning frame right after it
        rank = present * ((memory_time == 1).to(memory.dtype) * 2 + (memory_time == 0).to(memory.dtype) + 0.1)
        last = torch.arange(b, device=memory.device) * m + torch.argmax(rank, 1)
        if frames is None:
            frames = torch.arange(b * m, device=memory.device)
            memory_frame = frames.unflatten(0, (b, m))
            newest, newest_frame = last, torch.arange(b, device=memory.device)
        read = self.read_all(embedding, memory, memory_time, frames, memory_frame)
        here, fine = self.read_near(embedding, memory, last, newest, newest_frame)
        return self.fuse.memories(embedding, read, here, fine)

    def fetch(self, memory, slots, first, channels):
        """These channels of these memories, each flat."""
        b, m, c, h, w = memory.shape
        chunks = torch.arange(first // CHUNK, (first + channels) // CHUNK, device=memory.device)
        chunks = (slots[:, None] * (c // CHUNK) + chunks).flatten()
        return memory.reshape(b * m * (c // CHUNK), CHUNK * h * w).index_select(0, chunks).reshape(-1, channels * h * w)

    def read_all(self, embedding, memory, memory_time, frames, memory_frame):
        """Values by similarity, age and distance, B x n x VALUE."""
        h, w = embedding.shape[-2:]
        n = h * w
        b, m = memory.shape[:2]
        time = memory_time.flatten().index_select(0, frames)
        present = (time >= 0).to(memory.dtype)
        time = time.clamp(0, TIMES - 1)
        # -c|p - q|^2 and the bias as four more channels of the dot product
        c = (self.near[time].exp() * present)[:, None, None]
        bias = (self.age[time] * present + ABSENT * (1 - present))[:, None, None]
        place = places(h, w, memory).flatten(1)  # x, y, 1, x^2 + y^2
        x, y, one, square = place[:, :, None].unbind(0)
        here = torch.cat([2 * x, 2 * y, -square, -one], 1)[None] * c + bias * torch.cat([0 * x, 0 * y, one, 0 * one], 1)
        q = self.key(embedding).flatten(2).transpose(1, 2) * self.scale.exp()
        q = q.expand(here.shape[0], -1, -1) if q.shape[0] == 1 else q.repeat_interleave(m, 0)
        k = self.fetch(memory, frames, 0, KEY).unflatten(1, (KEY, n))
        k = torch.cat([k, place.expand(k.shape[0], -1, -1)], 1)
        # keys have unit length, so no exponent is large enough for a softmax's maximum to be needed
        likeness = torch.matmul(torch.cat([q, here], 2), k).exp()  # S x n x n
        total = likeness.sum(-1)
        v = memory.flatten(2)[:, :, KEY * n : (KEY + VALUE) * n].unflatten(2, (n, VALUE))

        def alike(likeness, v, memory_frame):
            return torch.matmul(likeness.index_select(0, memory_frame[0])[None], v).sum(1)

        def apart(likeness, v, memory_frame):
            each = likeness.index_select(0, memory_frame.flatten()).unflatten(0, memory_frame.shape)
            return torch.matmul(each, v).sum(1)

        # objects that remember the same frames, as those found together do, need no copies of what is large
        read = either((memory_frame == memory_frame[:1]).all(), alike, apart, (likeness, v, memory_frame))
        total = total.index_select(0, memory_frame.flatten()).unflatten(0, (b, m)).sum(1)[:, :, None]
        return read / total.clamp(min=1e-12)  # nothing where all memories are absent

    def read_near(self, embedding, memory, last, newest, newest_frame):
        """The newest frame's values at the same places, B x n x VALUE, and its mask in windows, B x 4 FINE x h x w."""
        h, w = embedding.shape[-2:]
        n, b = h * w, self.BLOCK
        nh, nw = 2 * h // b, 2 * w // b
        own = self.fetch(memory, last, KEY, VALUE + 4 * KEY8 + MASK)
        here = own[:, : VALUE * n].unflatten(1, (n, VALUE))
        mask = own[:, (VALUE + 4 * KEY8) * n :].unflatten(1, (4 * n, 4))
        cell, inside = self.windows(nh, nw, memory)
        k = self.fetch(memory, newest, KEY + VALUE, 4 * KEY8).unflatten(1, (4 * n, KEY8))
        k = k.index_select(1, cell.flatten()).unflatten(1, cell.shape)  # T x windows x 144 x KEY8
        q = unpack(embedding[:, FEATURES:]) * self.scale8.exp()
        q = q.unflatten(3, (nw, b)).unflatten(2, (nh, b)).permute(0, 2, 4, 3, 5, 1).flatten(3, 4).flatten(1, 2)
        r = 2 * b - 1
        a = torch.matmul(q, k.transpose(2, 3)) + (1 - inside) * ABSENT  # T x windows x 16 x 144
        weights = (a + self.offset[self.dy + r, self.dx + r]).softmax(-1)
        best = (a.amax(-1, keepdim=True) / self.scale8.exp()).index_select(0, newest_frame)

        def alike(weights, mask, newest_frame):
            beside = mask.transpose(0, 1).flatten(1).index_select(0, cell.flatten()).unflatten(0, cell.shape)
            read = torch.matmul(weights.index_select(0, newest_frame[:1])[0], beside)  # windows x 16 x 4B
            return read.unflatten(2, (-1, 4)).permute(2, 0, 1, 3).contiguous()

        def apart(weights, mask, newest_frame):
            windows = mask.index_select(1, cell.flatten()).unflatten(1, cell.shape)
            return torch.matmul(weights.index_select(0, newest_frame), windows)

        # objects seen last in the same frame are read beside each other
        read = either((newest_frame == newest_frame[:1]).all(), alike, apart, (weights, mask, newest_frame))
        out = torch.cat([read, best], -1)  # B x windows x 16 x 5, to be packed four to a cell
        out = out.unflatten(2, (b // 2, 2, b // 2, 2)).unflatten(1, (nh, nw))
        out = out.permute(0, 7, 4, 6, 1, 3, 2, 5).reshape(-1, 20, h, w)
        return here, torch.cat([out, pack(mask.mean(2).unflatten(1, (1, 2 * h, 2 * w)))], 1)

    def windows(self, nh, nw, like):
        """For each block of 4x4 stride-8 cells: the 12x12 cells around, and which of them are in the picture."""
        b = self.BLOCK
        range_ = lambda n: torch.arange(n, device=like.device)
        y = range_(nh)[:, None, None, None] * b + range_(3 * b)[None, None, :, None] - b
        x = range_(nw)[None, :, None, None] * b + range_(3 * b)[None, None, None, :] - b
        inside = (y >= 0) & (y < nh * b) & (x >= 0) & (x < nw * b)
        cell = y.clamp(0, nh * b - 1) * (nw * b) + x.clamp(0, nw * b - 1)
        return cell.reshape(nh * nw, 9 * b * b), inside.reshape(nh * nw, 1, 9 * b * b).to(like.dtype)


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
        self.register_buffer("ones", torch.ones(1, HIGH0, 1, 1), persistent=False)
        self.iou_in, self.iou_out = nn.Linear(WIDE + HIGH1 + CANDIDATES + 1, 64), nn.Linear(64, 1)
        self.score_in, self.score_out = nn.Linear(2 * WIDE + 2, 64), nn.Linear(64, 1)
        self.detector = Detector().requires_grad_(False)

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

    def boxes(self, high_res_1, labels):
        """The detector's box and score for each place; nothing where nobody points at an object, which is most frames."""

        def look(high_res_1):
            _, p3, n3, l5 = high_res_1.split([HIGH1, P3, N3 // 4, L5 // 16], 1)
            coarser = lambda t, channels, by: t.reshape(t.shape[0], channels, p3.shape[2] // by, p3.shape[3] // by)
            return Detector.grid(self.detector(p3, coarser(n3, N3, 2), coarser(l5, L5, 4)))

        def nothing(high_res_1):
            return torch.zeros_like(high_res_1[:, :5])

        return either((labels == 1).any(), look, nothing, (high_res_1,))

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
        f = unit(features.unflatten(1, (self.GROUPS, -1)).flatten(3), 2)     # B or 1, g c n
        where = weight.flatten(2)                                           # B 1 n
        total = where.sum(2)                                                # B 1
        if features.shape[0] == 1:
            mean = torch.matmul(where[:, 0], f.flatten(0, 2).transpose(0, 1))
        else:
            mean = torch.matmul(f.flatten(1, 2), where.transpose(1, 2))[:, :, 0]
        mean = unit(mean.unflatten(1, (self.GROUPS, -1)) / (total[:, :, None] + 1e-4), 2)
        like = torch.matmul(mean[:, :, None], f)[:, :, 0] * (total > 1e-3).to(f.dtype)[:, :, None]
        return like.unflatten(2, weight.shape[2:])

    def hints(self, boxes, fused, fine, high_res_1, coords, labels, given, has_mask):
        """What prompts and the fine reading add at strides 16 and 8; on most frames there is no prompt."""
        height, width = high_res_1.shape[-2:]
        layers = (self.prompt8, self.fine8, self.cue8)
        bias8, bias16 = sum(layer.bias for layer in layers), self.prompt16.bias + self.like16.bias + self.cue16.bias

        def prompted(boxes, fused, fine, high_res_1, coords, labels, given, has_mask):
            cue = self.extent(boxes, coords, labels, height, width)
            maps = self.prompt_maps(coords, labels, given, has_mask, height, width)
            maps16 = F.avg_pool2d(maps, 2)
            # the place pointed at: the points' narrow map, or the mask prompt's inside
            like16 = self.likeness(fused, maps16[:, :1] + maps16[:, 7:8])
            like8 = self.likeness(high_res_1, maps[:, :1] + maps[:, 7:8])
            weight = torch.cat([layer.weight for layer in layers], 1)
            at8 = F.conv2d(torch.cat([maps, like8, fine, cue], 1), weight, bias8, padding=1)
            return self.prompt16(maps16) + self.like16(like16) + self.cue16(F.avg_pool2d(cue, 2)), at8

        def left_alone(boxes, fused, fine, high_res_1, coords, labels, given, has_mask):
            at16 = bias16[None, :, None, None].expand(fused.shape[0], -1, *fused.shape[-2:])
            return at16.clone(), F.conv2d(fine, self.fine8.weight, bias8, padding=1)

        operands = (boxes, fused, fine, high_res_1, coords, labels, given, has_mask)
        return either((labels >= 0).any() | (has_mask > 0).any(), prompted, left_alone, operands)

    def judge(self, logits, which, summary, x8, high_res_1, fused):
        """Predicted IoU and pointer of these candidates, and how many cells each has."""
        height, width = high_res_1.shape[-2:]
        inside = F.avg_pool2d(torch.sigmoid(logits), 2)                      # B N H/8 W/8
        area = inside.sum((2, 3)) + 1e-3                                     # B N
        sharp = F.avg_pool2d(torch.sigmoid(4 * logits), 2).sum((2, 3)) / area
        pool = lambda weight, f: torch.matmul(weight.flatten(2), f.flatten(2).transpose(1, 2)) / area[:, :, None]
        one_hot = torch.eye(CANDIDATES, device=logits.device, dtype=logits.dtype)[None, which] + torch.zeros_like(area)[:, :, None]
        summary = summary[:, None] + torch.zeros_like(area)[:, :, None]
        quality = torch.cat([summary, pool(inside, x8), one_hot, sharp[:, :, None]], 2)
        iou = torch.sigmoid(self.iou_out(F.relu(self.iou_in(quality))))[:, :, 0]
        # pointer: what the object looks like (for recognising it again; this network's attention does not need it)
        # features are pooled where they are: under what their enlarged cells have of the mask
        inside16 = torch.matmul(torch.matmul(shares(height // 2, inside), inside), shares(width // 2, inside).transpose(0, 1))
        pointers = torch.cat([pool(inside, high_res_1), pool(inside16, fused[:, :FEATURES])], 2)
        return iou, pointers, area

    def others(self, all_candidates, x4, *of):
        """The candidates after the first, where somebody wants them."""

        def look(x4, *of):
            logits = F.conv2d(x4, self.out.weight[1:], self.out.bias[1:], padding=1)
            return (logits, *self.judge(logits, slice(1, None), *of)[:2])

        def nothing(x4, summary, x8, high_res_1, fused):
            none = lambda *size: torch.zeros(x4.shape[0], CANDIDATES - 1, *size, device=x4.device, dtype=x4.dtype)
            return none(*x4.shape[2:]), none(), none(high_res_1.shape[1] + FEATURES)

        return either((all_candidates > 0).any(), look, nothing, (x4, *of))

    def forward(self, embedding, high_res_0, high_res_1, point_coords, point_labels, mask_prompt, has_mask, all_candidates=None):
        """all_candidates 1: whether more than the first is wanted; else the others are 0. Left out: it is."""
        if all_candidates is None:
            all_candidates = torch.ones(1, dtype=torch.long, device=embedding.device)
        height, width = high_res_1.shape[-2:]
        boxes = self.boxes(high_res_1, point_labels)
        high_res_1 = high_res_1[:, :HIGH1]
        given = torch.sigmoid(mask_prompt.clamp(-20, 20)) * has_mask[:, None, None, None]
        fused, fine = embedding.split([FUSED, 4 * FINE], 1)
        fine = unpack(fine)
        hints16, hints8 = self.hints(boxes, fused, fine, high_res_1, point_coords, point_labels, given, has_mask)
        x16 = self.mix16(F.relu(self.in16(fused) + hints16))
        pooled = torch.cat([x16.mean((2, 3)), x16.amax((2, 3))], 1)
        x16 = F.relu(x16 + self.context(pooled)[:, :, None, None])
        x8 = upsample(self.to8(x16)) + hints8 + high_res_1
        x8 = self.res8(F.relu(x8))
        x4 = upsample(self.to4(x8)) + self.mask4(torch.cat([given, F.pixel_shuffle(fine[:, :4], 2)], 1)) + high_res_0
        x4 = self.res4(F.relu(x4))
        # a convolution with one output: each channel by itself, and their sum
        each = F.conv2d(x4, self.out.weight[:1].transpose(0, 1), padding=1, groups=HIGH0)
        first = F.conv2d(each, self.ones, self.out.bias[:1])
        summary = pooled[:, :WIDE]
        iou, pointers, area = self.judge(first, slice(0, 1), summary, x8, high_res_1, fused)
        peak = first.amax((2, 3)).clamp(-20, 20) * 0.1
        score = self.score_out(F.relu(self.score_in(torch.cat([pooled, peak, torch.log(area)], 1))))
        others = self.others(all_candidates, x4, summary, x8, high_res_1, fused)
        logits, iou, pointers = (torch.cat(both, 1) for both in zip((first, iou, pointers), others))
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
        b, (h, w) = mask.shape[0], embedding.shape[-2:]
        each = lambda t: t.expand(b, *t.shape[1:]).flatten(1)
        finer = lambda t: unpack(t).flatten(2).transpose(1, 2)
        rows = (self.key(embedding), value.flatten(2).transpose(1, 2), finer(embedding[:, FEATURES:]), finer(cells))
        return torch.cat([each(t) for t in rows], 1).unflatten(1, (CM, h, w))


class Nano(nn.Module):
    def __init__(self):
        super().__init__()
        key, fuse = Key(), Fuse()
        self.image_encoder = ImageEncoder(fuse)
        self.memory_attention = MemoryAttention(key, fuse)
        self.mask_decoder = MaskDecoder()
        self.memory_encoder = MemoryEncoder(key)

    def load_state_dict(self, state, *args, **kwargs):
        """Also of checkpoints in which the detector was the image encoder's."""
        moved = {k.replace("image_encoder.detector.", "mask_decoder.detector."): v for k, v in state.items()}
        return super().load_state_dict(moved, *args, **kwargs)


if __name__ == "__main__":
    net = Nano()
    print({n: sum(p.numel() for p in m.parameters()) for n, m in net.named_children()}, "total", sum(p.numel() for p in net.parameters()))
