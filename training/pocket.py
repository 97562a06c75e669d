"""The sizes of the pocket Zero123++; those of the pocket InstantMesh are a preset of
`pipelines.weights.presets`.
"""

from __future__ import annotations

from typing import Any

_CONTEXT = 192

POCKET_VAE: dict[str, Any] = {
    "block_out_channels": (32, 64, 64, 64),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "layers_per_block": 1,
    "norm_num_groups": 16,
    "latent_channels": 4,
    "sample_size": 128,
    "scaling_factor": 0.18215,
    "force_upcast": False,
}
POCKET_UNET: dict[str, Any] = {
    "sample_size": 16,
    "block_out_channels": (64, 128, 176),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "layers_per_block": 1,
    "norm_num_groups": 16,
    "cross_attention_dim": _CONTEXT,
    "attention_head_dim": (1, 2, 4),  # diffusers' name for the number of heads
    "use_linear_projection": True,
}
POCKET_VISION: dict[str, Any] = {
    "hidden_size": 192,
    "intermediate_size": 384,
    "num_hidden_layers": 4,
    "num_attention_heads": 3,
    "image_size": 128,
    "patch_size": 16,
    "projection_dim": _CONTEXT,
    "hidden_act": "gelu",
}
POCKET_TEXT: dict[str, Any] = {
    "vocab_size": 3,
    "hidden_size": _CONTEXT,
    "intermediate_size": 384,
    "num_hidden_layers": 1,
    "num_attention_heads": 3,
    "max_position_embeddings": 77,
    "hidden_act": "gelu",
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 2,
}
POCKET_SCHEDULER: dict[str, Any] = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "linear",
    "prediction_type": "v_prediction",
    "timestep_spacing": "trailing",
    "steps_offset": 1,
}
RAMP = [i / 76 for i in range(77)]
