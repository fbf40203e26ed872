"""Lay a template over a query: angle, scale and shift, coarse to fine.

Gauss-Newton on grey values (Lucas and Kanade's way), with gain and offset solved beside the movement and the worst
tenth of the pixels left out, so that neither the light nor the defect moves the template. What it starts from is found
by correlation on a thumbnail. A movement is kept only where it makes the two more alike than none does.

Shape legend: H, W rows and columns of the query; coordinates are pixels from the middle of a picture, x to the right.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F

__all__ = ["KEPT", "Movement", "place", "quantile", "register"]

#: The largest movement that is looked for: a share of the longer side, degrees, and a factor.
MOST_SHIFT = 0.25
MOST_DEGREES = 15.0
MOST_SCALE = 1.15
#: By what the pictures are shrunk that the movement is found on, from the coarsest to the finest.
LEVELS = (32, 16, 8, 4, 2, 1)
#: A level whose longer side has more pixels tells no more: half a pixel of it is what the search for patches allows.
MOST_SIDE = 256
#: A level whose shorter side has fewer pixels tells nothing.
LEAST_SIDE = 14
STEPS = 10
#: Of the pixels, those that fit worst are not asked: a defect, a shadow, what came into view.
KEPT = 0.9
#: Enough pixels to find a quantile of.
SAMPLE = 20_000
#: Share of the query that the template has to show.
LEAST_SEEN = 0.4
#: What likeness a movement has to gain for all of the query that it leaves without a template under it: there, nothing
#: can be found. A few rows and columns cost nothing, or nothing would be moved by a pixel or two.
COST_OF_UNSEEN = 0.3
FREE_UNSEEN = 0.08
#: Pixels at a template's edge that are not compared: in a query that was turned, what lay beyond is mixed into them.
EDGE = 1
#: Degrees that the thumbnail is turned by.
TURNS = (0.0, -4.0, 4.0, -8.0, 8.0, -12.0, 12.0)
#: Shifts that are looked at for each turn, and how many of all are followed.
PEAKS, STARTS = 6, 3
#: Side of the thumbnail in pixels.
THUMBNAIL = 48


@dataclass(frozen=True, kw_only=True)
class Movement:
    """Where the template lies under the query.

    Attributes:
        angle: radians by which a direction in the query is turned to be that in the template.
        scale: length in the template of one pixel of the query.
        shift: (x, y), where the middle of the query lies from the middle of the template, in pixels.
    """

    angle: float = 0.0
    scale: float = 1.0
    shift: tuple[float, float] = (0.0, 0.0)

    @property
    def is_none(self) -> bool:
        """Whether nothing moves."""
        return self == Movement()


def register(query: torch.Tensor, template: torch.Tensor) -> Movement:
    """How the template has to be moved to lie under the query.

    Args:
        query, template: (1, C, H, W) of one size, values 0 to 1.
    """
    query, template = (one.mean(1, keepdim=True) for one in (query, template))
    shorter, longer = min(query.shape[-2:]), max(query.shape[-2:])
    levels = [level for level in LEVELS if shorter // level >= LEAST_SIDE]
    fine = [level for level in levels if longer / level <= MOST_SIDE]
    none = torch.tensor([0.0, 0.0, 0.0, 0.0])  # angle, logarithm of the scale, shift x, shift y
    starts = [none, *_starts(query, template)]
    found = none
    for level in fine or levels[:1]:
        q, t = (_smooth(F.avg_pool2d(one, level) if level > 1 else one) for one in (query, template))
        tried = [_refine(q, t, start * _per_pixel(1 / level)) for start in starts]
        found = max(tried, key=lambda one: one[0])[1] * _per_pixel(level)
        starts = [found]
    if not levels or _likeness(q, t, found * _per_pixel(1 / level)) <= _likeness(q, t, none):
        return Movement()
    angle, scale, x, y = found.tolist()
    if max(abs(x), abs(y)) > MOST_SHIFT * longer:
        return Movement()
    return Movement(angle=angle, scale=float(torch.tensor(scale).exp()), shift=(x, y))


def place(template: torch.Tensor, movement: Movement) -> tuple[torch.Tensor, torch.Tensor]:
    """The template as it lies under the query.

    Args:
        template: (1, C, H, W).

    Returns:
        (1, C, H, W), and (H, W) truth values: where the template has something under the query.
    """
    if movement.is_none:
        return template, torch.ones(template.shape[-2:], dtype=torch.bool)
    values = torch.tensor([movement.angle, torch.tensor(movement.scale).log(), *movement.shift])
    grid, _ = _grid(values, *template.shape[-2:])
    placed = F.grid_sample(template, grid, padding_mode="border", align_corners=True)
    height, width = template.shape[-2:]
    margin = 1 - torch.tensor([2 * EDGE / (width - 1), 2 * EDGE / (height - 1)])
    return placed, (grid[0].abs() <= margin).all(-1)


def _per_pixel(factor: float) -> torch.Tensor:
    return torch.tensor([1.0, 1.0, factor, factor])


def _smooth(picture: torch.Tensor) -> torch.Tensor:
    """Gradients of single pixels point anywhere."""
    line = torch.tensor([1.0, 2.0, 1.0]) / 4
    return F.conv2d(F.pad(picture, (1, 1, 1, 1), mode="replicate"), (line[:, None] * line)[None, None])


def _grid(values: torch.Tensor, height: int, width: int) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
    """(1, H, W, 2) for `grid_sample`, and for each pixel of the query x and y of the turned and scaled place."""
    y, x = torch.meshgrid(torch.arange(height).float(), torch.arange(width).float(), indexing="ij")
    x, y = x - (width - 1) / 2, y - (height - 1) / 2
    cosine, sine = values[0].cos() * values[1].exp(), values[0].sin() * values[1].exp()
    turned = cosine * x - sine * y, sine * x + cosine * y
    grid = torch.stack(
        [(turned[0] + values[2]) / ((width - 1) / 2), (turned[1] + values[3]) / ((height - 1) / 2)], dim=-1
    )
    return grid[None], turned


def _likeness(query: torch.Tensor, template: torch.Tensor, values: torch.Tensor) -> float:
    """Correlation of the query with the moved template, where both show something, less the cost of what the template
    does not show; -1 for a movement out of bounds."""
    longer = max(query.shape[-2:])
    degrees = abs(float(values[0].rad2deg()))
    if degrees > MOST_DEGREES or values[1].abs().exp() > MOST_SCALE or values[2:].abs().max() > MOST_SHIFT * longer:
        return -1.0
    grid, _ = _grid(values, *query.shape[-2:])
    seen = grid[0].abs().amax(-1) <= 1
    share = float(seen.float().mean())
    if share < LEAST_SEEN:
        return -1.0
    moved = F.grid_sample(template, grid, padding_mode="border", align_corners=True)[0, 0][seen]
    return _correlation(moved, query[0, 0][seen]) - COST_OF_UNSEEN * max(0.0, 1 - share - FREE_UNSEEN)


def _correlation(one: torch.Tensor, other: torch.Tensor) -> float:
    one, other = one - one.mean(), other - other.mean()
    return float((one * other).mean() / (one.std() * other.std() + 1e-6))


def _refine(query: torch.Tensor, template: torch.Tensor, values: torch.Tensor) -> tuple[float, torch.Tensor]:
    """The best likeness on the way down from a start, and its movement."""
    height, width = query.shape[-2:]
    best = (_likeness(query, template, values), values)
    target = query[0, 0]
    slope_y, slope_x = (slope[None, None] for slope in torch.gradient(template[0, 0]))
    layers = torch.cat([template, slope_x, slope_y], dim=1)
    for _ in range(STEPS):
        grid, (turned_x, turned_y) = _grid(values, height, width)
        seen = grid[0].abs().amax(-1) <= 1
        if seen.float().mean() < LEAST_SEEN:
            break
        value, gx, gy = F.grid_sample(layers, grid, padding_mode="border", align_corners=True)[0]
        # how the template's value under each pixel changes with angle, scale and shift
        moved = torch.stack([gy * turned_x - gx * turned_y, gx * turned_x + gy * turned_y, gx, gy], dim=-1)[seen]
        light = torch.stack([value, torch.ones_like(value)], dim=-1)[seen]
        wanted = target[seen]
        gain = _solve(light, wanted)
        rest = wanted - light @ gain
        kept = rest.abs() <= quantile(rest.abs(), KEPT)
        system = torch.cat([moved * gain[0], light], dim=-1)[kept]
        step = _solve(system, rest[kept])[:4]
        longest = torch.tensor([0.1, 0.05, 2.0, 2.0])
        step = torch.minimum(torch.maximum(step, -longest), longest)
        values = values + step
        like = _likeness(query, template, values)
        if like > best[0]:
            best = (like, values)
        if step[2:].abs().max() < 0.01 and step[:2].abs().max() * max(height, width) < 0.02:
            break
    return best


def _solve(system: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """Least squares over (pixels, unknowns) by the normal equations, held where a flat picture leaves it open."""
    square = system.T @ system
    held = 1e-6 * len(system) * torch.eye(len(square)) + 1e-6 * torch.diag(square.diag())
    return torch.linalg.solve(square + held, system.T @ wanted)


def quantile(values: torch.Tensor, share: float) -> torch.Tensor:
    """Of all values, or of a sample where they are many."""
    return torch.quantile(values.flatten()[:: max(1, values.numel() // SAMPLE)], share)


def _starts(query: torch.Tensor, template: torch.Tensor) -> list[torch.Tensor]:
    """The movement of a thumbnail that correlates best, over all shifts and a few angles."""
    height, width = query.shape[-2:]
    factor = max(1, round(max(height, width) / THUMBNAIL))
    q, t = (F.avg_pool2d(one, factor) if factor > 1 else one for one in (query, template))
    rows, columns = q.shape[-2:]
    if min(rows, columns) < LEAST_SIDE // 2:
        return []
    size = (2 * rows, 2 * columns)  # room for every shift without going round

    def spectrum(picture: torch.Tensor) -> torch.Tensor:
        flat = picture[0, 0] - picture.mean()
        return torch.fft.rfft2(flat, s=size)

    wanted, found = spectrum(q), []
    for degrees in TURNS:
        angle = torch.tensor(degrees).deg2rad()
        turn = torch.stack([angle, torch.tensor(0.0), torch.tensor(0.0), torch.tensor(0.0)])
        turned = F.grid_sample(t, _grid(turn, rows, columns)[0], padding_mode="border", align_corners=True)
        products = torch.fft.irfft2(wanted.conj() * spectrum(turned), s=size)
        y, x = torch.meshgrid(*(torch.fft.fftfreq(n, 1 / n) for n in size), indexing="ij")
        near = (x.abs() <= MOST_SHIFT * max(rows, columns)) & (y.abs() <= MOST_SHIFT * max(rows, columns))
        overlap = ((rows - y.abs()) * (columns - x.abs())).clamp(min=1)
        means = torch.where(near, products / overlap, torch.tensor(-torch.inf))
        # the highest places of small and of large overlaps alike: what repeats has many
        peaks = means == F.max_pool2d(means[None, None], 3, stride=1, padding=1)[0, 0]
        places = torch.where(peaks, means, torch.tensor(-torch.inf)).flatten().topk(PEAKS).indices.tolist()
        for place in places:
            # where the query's middle lies in the turned template, then in the template itself
            shift = x.flatten()[place], y.flatten()[place]
            cosine, sine = angle.cos(), angle.sin()
            moved = cosine * shift[0] - sine * shift[1], sine * shift[0] + cosine * shift[1]
            start = torch.stack([angle, torch.tensor(0.0), *moved])
            found.append((_likeness(q, t, start), start))
    found.sort(key=lambda one: -one[0])
    return [start * _per_pixel(factor) for like, start in found[:STARTS] if like > -1]
