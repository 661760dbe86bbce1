"""A scene becomes a picture, its exact depth and its object masks. Runs on any torch device."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from training import landscape, styles
from training.scenes import COLOURS, LIGHTS, Camera, Scene
from training.shapes import FAR, Hit, intersect
from training.surfaces import floor_colour, sky_colour, wall_colour

FLOOR, WALL, SKY, RELIEF = -1, -2, -3, -4
SUBSAMPLES = ((-0.375, -0.125), (-0.125, 0.375), (0.125, -0.375), (0.375, 0.125))


@dataclass(frozen=True)
class Render:
    """rgb uint8 [H, W, 3]; disparity float32 [H, W], 1/metres, sky 0; ids int8 [H, W]: things 0.., FLOOR, ..."""

    rgb: np.ndarray
    disparity: np.ndarray
    ids: np.ndarray

    @property
    def depth(self) -> np.ndarray:
        """The depth map of the contract: float32 0..1, near is bright, spanning the whole range."""
        low, high = float(self.disparity.min()), float(self.disparity.max())
        return ((self.disparity - low) / max(high - low, 1e-6)).astype(np.float32)


@torch.inference_mode()
def render(scene: Scene, width: int, height: int, device: str = "cpu") -> Render:
    """Cast one ray a pixel, then four more wherever neighbours differ (where stairs would show); then the style."""
    rows, columns = torch.meshgrid(
        torch.arange(height, device=device) + 0.5, torch.arange(width, device=device) + 0.5, indexing="ij"
    )
    u, v = columns.reshape(-1), rows.reshape(-1)
    colour, disparity, ids = _trace(scene, u, v, width, height)
    rough = _differs(colour.view(height, width, 3), ids.view(height, width)).reshape(-1).nonzero()[:, 0]
    if len(rough):
        shots = [_trace(scene, u[rough] + du, v[rough] + dv, width, height)[0] for du, dv in SUBSAMPLES]
        colour[rough] = torch.stack(shots).mean(0)
    drawn = styles.draw(
        scene.style,
        colour.view(height, width, 3),
        disparity.view(height, width),
        ids.view(height, width),
        scene.seed,
    )
    return Render(
        (drawn * 255).round().to(torch.uint8).cpu().numpy(),
        disparity.view(height, width).cpu().numpy(),
        ids.view(height, width).to(torch.int8).cpu().numpy(),
    )


def _differs(colour: Tensor, ids: Tensor) -> Tensor:
    edge = torch.zeros_like(ids, dtype=torch.bool)
    for axis in (0, 1):
        step = (colour.diff(dim=axis).abs().amax(2) > 0.06) | (ids.diff(dim=axis) != 0)
        first, second = edge.narrow(axis, 0, step.shape[axis]), edge.narrow(axis, 1, step.shape[axis])
        first |= step
        second |= step
    return edge


def _trace(scene: Scene, u: Tensor, v: Tensor, width: int, height: int) -> tuple[Tensor, Tensor, Tensor]:
    """Display colour [N, 3] 0..1, disparity [N] and ids [N] of the rays through pixel positions (u, v)."""
    # 1. Rays, and the light.
    origin, direction, forward = _rays(scene.camera, u, v, width, height)
    light = LIGHTS[scene.light]
    level = math.cos(scene.sun_elevation)
    sun = origin.new_tensor(
        [
            level * math.sin(scene.sun_azimuth),
            math.sin(scene.sun_elevation),
            -level * math.cos(scene.sun_azimuth),
        ]
    )
    # 2. The nearest surface.
    t, normal, ids = _nearest(scene, origin, direction)
    point = origin + t[:, None] * direction
    # 3. Its own colour.
    albedo = _albedo(scene, point, ids)
    # 4. Light on it: sky from above, sun where no object stands in the way, darker where things touch the floor.
    facing = (normal @ sun).clamp_min(0) * _sunlit(scene, point, normal, sun)
    ambient = (0.72 + 0.28 * normal[:, 1]) * _openness(scene, point, ids)
    radiance = albedo * (
        ambient[:, None] * albedo.new_tensor(light.ambient) * 1.5
        + facing[:, None] * albedo.new_tensor(light.sun)
    )
    radiance = radiance + _gloss(scene, direction, normal, ids, sun, facing)
    radiance = torch.where((ids == SKY)[:, None], sky_colour(light, direction, sun), radiance)
    if light.haze:
        clear = torch.exp(-light.haze * t.clamp(max=100.0))[:, None]
        radiance = torch.lerp(albedo.new_tensor(light.horizon).expand_as(radiance), radiance, clear)
    # 5. Display values and disparity along the camera's axis.
    colour = radiance.clamp(0, 1) ** (1 / 2.2)
    disparity = torch.where(ids == SKY, 0.0, 1.0 / (t * (direction @ forward)).clamp_min(0.1))
    return colour, disparity, ids


def _rays(camera: Camera, u: Tensor, v: Tensor, width: int, height: int) -> tuple[Tensor, Tensor, Tensor]:
    focal = 0.5 * min(width, height) / math.tan(camera.fov / 2)
    x, y = (u - width / 2) / focal, (height / 2 - v) / focal
    cos, sin = math.cos(camera.pitch), math.sin(camera.pitch)
    direction = torch.stack((x, y * cos - sin, y * sin + cos), 1)
    direction = direction / direction.norm(dim=1, keepdim=True)
    origin = direction.new_tensor([0.0, camera.height, 0.0]).expand_as(direction)
    return origin, direction, direction.new_tensor([0.0, -sin, cos])


def _nearest(scene: Scene, origin: Tensor, direction: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    best = torch.full_like(direction[:, 0], FAR)
    normal = torch.zeros_like(direction)
    ids = torch.full_like(best, SKY, dtype=torch.int64)

    def offer(hit: Hit, name: int) -> None:
        nonlocal best, normal, ids
        closer = hit[0] < best
        best = torch.where(closer, hit[0], best)
        normal = torch.where(closer[:, None], hit[1], normal)
        ids = torch.where(closer, name, ids)

    offer(_plane(origin, direction, 1, 0.0, 1.0), FLOOR)
    if scene.wall:
        offer(_plane(origin, direction, 2, scene.wall_z, -1.0), WALL)
        if scene.side_walls:
            offer(_plane(origin, direction, 0, -scene.side_walls, 1.0), WALL)
            offer(_plane(origin, direction, 0, scene.side_walls, -1.0), WALL)
    elif scene.relief:
        offer(landscape.meet(scene, origin, direction), RELIEF)
    for index, thing in enumerate(scene.things):
        offer(intersect(thing, origin, direction), index)
    return best, normal, ids


def _plane(origin: Tensor, direction: Tensor, axis: int, at: float, facing: float) -> Hit:
    speed = direction[:, axis]
    t = (at - origin[:, axis]) / torch.where(speed.abs() < 1e-9, 1e-9, speed)
    normal = torch.zeros_like(direction)
    normal[:, axis] = facing
    return torch.where((t > 0) & (speed * facing < 0) & (t < 400), t, FAR), normal


def _albedo(scene: Scene, point: Tensor, ids: Tensor) -> Tensor:
    albedo = torch.zeros_like(point)
    floor = (ids == FLOOR).nonzero()[:, 0]
    albedo[floor] = floor_colour(scene.floor, point[floor, 0], point[floor, 2], scene.seed)
    if scene.wall:
        wall = (ids == WALL).nonzero()[:, 0]
        across = point[wall, 0] + point[wall, 2]
        albedo[wall] = wall_colour(scene.wall, across, point[wall, 1], scene.seed)
    elif scene.relief:
        far = ids == RELIEF
        albedo[far] = landscape.relief_colour(scene, point[far])
    for index, thing in enumerate(scene.things):
        albedo[ids == index] = albedo.new_tensor(COLOURS[thing.colour])
    return albedo


def _sunlit(scene: Scene, point: Tensor, normal: Tensor, sun: Tensor) -> Tensor:
    start = point + 0.004 * normal
    lit = torch.ones_like(point[:, 0])
    for thing in scene.things:
        # Only points near the object's shadow axis can be in its shadow: skip the rest.
        base = point.new_tensor([thing.x, thing.height / 2, thing.z]) - start
        along = (base * sun).sum(1)
        aside = (base * base).sum(1) - along * along
        near = (
            (along > -thing.height) & (aside < (thing.radius * 1.5) ** 2 + thing.height**2 / 4)
        ).nonzero()[:, 0]
        if len(near):
            t, _ = intersect(thing, start[near], sun.expand(len(near), 3))
            lit[near] = torch.where(t < FAR, 0.0, lit[near])
    return lit


def _openness(scene: Scene, point: Tensor, ids: Tensor) -> Tensor:
    open_sky = torch.ones_like(point[:, 0])
    for thing in scene.things:
        distance = ((point[:, 0] - thing.x) ** 2 + (point[:, 2] - thing.z) ** 2).sqrt() - 0.8 * thing.radius
        shade = 1 - 0.5 * torch.exp(-distance.clamp_min(0) * 3.0 / thing.radius)
        open_sky = torch.where(ids == FLOOR, open_sky * shade, open_sky)
    return open_sky


def _gloss(
    scene: Scene, direction: Tensor, normal: Tensor, ids: Tensor, sun: Tensor, facing: Tensor
) -> Tensor:
    shiny = torch.zeros_like(facing)
    for index, thing in enumerate(scene.things):
        if thing.shiny:
            shiny = torch.where(ids == index, 1.0, shiny)
    if not bool(shiny.any()):
        return torch.zeros_like(direction)
    mirror = direction - 2 * (direction * normal).sum(1, keepdim=True) * normal
    light = LIGHTS[scene.light]
    spot = (mirror @ sun).clamp_min(0) ** 40 * (facing > 0) * 0.9
    rim = (1 + (direction * normal).sum(1)).clamp(0, 1) ** 4 * 0.35
    glow = spot[:, None] * direction.new_tensor(light.sun) + rim[:, None] * direction.new_tensor(
        light.horizon
    )
    return shiny[:, None] * glow
