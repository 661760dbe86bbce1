"""The command as people run it: a process of its own, with the embedded model."""

import subprocess
import sys
from pathlib import Path

from PIL import Image


def depthwright(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "depthwright", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)


def test_the_embedded_model_makes_a_picture_and_says_nothing_but_its_progress(tmp_path: Path) -> None:
    done = depthwright(
        *("generate", "--prompt", "a red cube on sand", "--size", "512*520", "--steps", "1", "--seed", "7"),
        *("--device", "cpu", "--output", str(tmp_path / "out.png")),
    )
    assert done.returncode == 0, done.stderr
    assert Image.open(tmp_path / "out.png").size == (512, 520)
    assert "seed 7" in done.stdout
    assert "(embedded-" in done.stdout
    progress = [line.split(":")[0] for line in done.stderr.splitlines()]
    assert progress == [
        "Loading embedded ...",
        "Depth map",
        "Prompt",
        "Control latents",
        "Denoising",
        "Decoding",
        "Fidelity",
    ]


def test_an_unknown_profile_part_and_device_are_one_sentence_each(tmp_path: Path) -> None:
    request = ("generate", "--prompt", "x", "--output", str(tmp_path / "out.png"))
    profile = depthwright(*request, "--profile", "flux")
    assert (profile.returncode, profile.stdout) == (2, "")
    assert "There is no profile 'flux'; did you mean flux-dev?" in profile.stderr
    part = depthwright(*request, "--weights", f"lora={tmp_path}")
    assert part.returncode == 2
    assert "--weights is 'lora': it must be one of transformer, vae" in part.stderr
    device = depthwright(*request, "--device", "abacus")
    assert device.returncode == 2
    assert "--device is 'abacus': it must be" in device.stderr
    assert not any("Traceback" in done.stderr for done in (profile, part, device))
