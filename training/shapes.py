"""Where a ray meets a shape. Every shape stands on the floor in its own frame: y up, centred on the y axis.

`origin` and `direction` are [N, 3] floats in that frame; an answer is (t [N], normal [N, 3]), t = FAR for a miss.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from training.scenes import Thing

FAR = 1e6
NEAR = 1e-3

Hit = tuple[Tensor, Tensor]


def intersect(thing: Thing, origin: Tensor, direction: Tensor) -> Hit:
    """Meet one object, in world coordinates."""
    cos, sin = math.cos(thing.turn), math.sin(thing.turn)
    turn = origin.new_tensor([[cos, 0, sin], [0, 1, 0], [-sin, 0, cos]])
    local_origin = (origin - origin.new_tensor([thing.x, 0, thing.z])) @ turn
    t, normal = _SHAPES[thing.shape](thing.radius, thing.height, local_origin, direction @ turn)
    return t, normal @ turn.T


def _ball(centre_y: float, radius: float, origin: Tensor, direction: Tensor) -> Hit:
    offset = origin - origin.new_tensor([0, centre_y, 0])
    b = (offset * direction).sum(1)
    disc = b * b - (offset * offset).sum(1) + radius * radius
    t = -b - disc.clamp_min(0).sqrt()
    t = torch.where((disc > 0) & (t > NEAR), t, FAR)
    return t, (offset + t[:, None] * direction) / radius


def _sphere(radius: float, _height: float, origin: Tensor, direction: Tensor) -> Hit:
    return _ball(radius, radius, origin, direction)


def _convex(planes: list[tuple[float, float, float, float]], origin: Tensor, direction: Tensor) -> Hit:
    """The solid n . p <= d for every plane (nx, ny, nz, d)."""
    table = origin.new_tensor(planes)
    normals, offsets = table[:, :3], table[:, 3]
    speed = direction @ normals.T
    gap = offsets - origin @ normals.T
    t = gap / torch.where(speed.abs() < 1e-9, torch.full_like(speed, 1e-9), speed)
    enter, face = torch.where(speed < 0, t, -FAR).max(1)
    leave = torch.where(speed > 0, t, FAR).min(1).values
    hit = (enter < leave) & (enter > NEAR)
    return torch.where(hit, enter, FAR), normals[face]


def _cube(_radius: float, height: float, origin: Tensor, direction: Tensor) -> Hit:
    half = height / 2
    sides = [(1, 0, 0, half), (-1, 0, 0, half), (0, 0, 1, half), (0, 0, -1, half)]
    return _convex([*sides, (0, 1, 0, height), (0, -1, 0, 0)], origin, direction)


def _pyramid(radius: float, height: float, origin: Tensor, direction: Tensor) -> Hit:
    slant = math.hypot(radius, height)
    across, up, offset = height / slant, radius / slant, height * radius / slant
    sides = [
        (across, up, 0, offset),
        (-across, up, 0, offset),
        (0, up, across, offset),
        (0, up, -across, offset),
    ]
    return _convex([*sides, (0, -1, 0, 0)], origin, direction)


def _tube(radius: float, bottom: float, top: float, origin: Tensor, direction: Tensor) -> Hit:
    ox, oz, dx, dz = origin[:, 0], origin[:, 2], direction[:, 0], direction[:, 2]
    a = (dx * dx + dz * dz).clamp_min(1e-9)
    b = ox * dx + oz * dz
    disc = b * b - a * (ox * ox + oz * oz - radius * radius)
    t = (-b - disc.clamp_min(0).sqrt()) / a
    y = origin[:, 1] + t * direction[:, 1]
    t = torch.where((disc > 0) & (t > NEAR) & (y > bottom) & (y < top), t, FAR)
    point = origin + t[:, None] * direction
    return t, torch.stack((point[:, 0] / radius, torch.zeros_like(t), point[:, 2] / radius), 1)


def _disc(radius: float, y: float, origin: Tensor, direction: Tensor) -> Hit:
    t = (y - origin[:, 1]) / torch.where(direction[:, 1].abs() < 1e-9, -1e-9, direction[:, 1])
    point = origin + t[:, None] * direction
    inside = point[:, 0] ** 2 + point[:, 2] ** 2 < radius * radius
    t = torch.where(inside & (t > NEAR), t, FAR)
    return t, origin.new_tensor([0.0, 1.0, 0.0]).expand_as(origin)


def nearest(first: Hit, second: Hit) -> Hit:
    """The closer of two hits, ray by ray."""
    closer = first[0] <= second[0]
    return torch.where(closer, first[0], second[0]), torch.where(closer[:, None], first[1], second[1])


def _cylinder(radius: float, height: float, origin: Tensor, direction: Tensor) -> Hit:
    width = 0.8 * radius
    return nearest(_tube(width, 0, height, origin, direction), _disc(width, height, origin, direction))


def _capsule(radius: float, height: float, origin: Tensor, direction: Tensor) -> Hit:
    width = 0.62 * radius
    body = _tube(width, width, height - width, origin, direction)
    ends = nearest(_ball(width, width, origin, direction), _ball(height - width, width, origin, direction))
    return nearest(body, ends)


def _cone(radius: float, height: float, origin: Tensor, direction: Tensor) -> Hit:
    slope = (radius / height) ** 2
    ox, oy, oz = origin[:, 0], origin[:, 1] - height, origin[:, 2]
    dx, dy, dz = direction.unbind(1)
    a = dx * dx + dz * dz - slope * dy * dy
    b = ox * dx + oz * dz - slope * oy * dy
    c = ox * ox + oz * oz - slope * oy * oy
    a = torch.where(a.abs() < 1e-9, 1e-9, a)
    disc = b * b - a * c
    root = disc.clamp_min(0).sqrt()
    best = torch.full_like(a, FAR)
    for t in ((-b - root) / a, (-b + root) / a):
        y = oy + t * dy
        best = torch.where((disc > 0) & (t > NEAR) & (y < 0) & (y > -height) & (t < best), t, best)
    point = origin + best[:, None] * direction
    normal = torch.stack((point[:, 0], slope * (height - point[:, 1]), point[:, 2]), 1)
    return best, torch.nn.functional.normalize(normal, dim=1)


_SHAPES = {
    "sphere": _sphere,
    "cube": _cube,
    "cylinder": _cylinder,
    "cone": _cone,
    "pyramid": _pyramid,
    "capsule": _capsule,
}
