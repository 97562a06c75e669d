"""Reference attention: denoising also attends to hidden states of the condition image.

Source: Shi et al., Zero123++ (arXiv 2310.15110), section 2.2.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

if TYPE_CHECKING:
    from diffusers import UNet2DConditionModel
    from diffusers.models.attention_processor import Attention, AttnProcessor2_0


class ReferenceAttention:
    """A self-attention processor that stores hidden states.

    In mode "keep" it attends as usual and stores its input hidden states. In mode "use" it attends
    to its input followed by the stored states, and then discards them.
    """

    def __init__(self, attend: AttnProcessor2_0) -> None:
        self.mode: Literal["keep", "use"] = "keep"
        self._kept: Tensor | None = None
        self._attend = attend

    def __call__(
        self,
        attn: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
    ) -> Tensor:
        if self.mode == "keep":
            self._kept = hidden_states
            context = hidden_states
        else:
            assert self._kept is not None, "the reference pass runs before the denoising pass"
            context = torch.cat([hidden_states, self._kept], dim=1)
            self._kept = None
        attended: Tensor = self._attend(attn, hidden_states, context, attention_mask, temb)
        return attended


class ReferenceUNet:
    """A U-Net whose self-attentions are `ReferenceAttention`.

    Args:
        unet: a `UNet2DConditionModel`; its attention processors are replaced.
    """

    def __init__(self, unet: UNet2DConditionModel) -> None:
        from diffusers.models.attention_processor import AttnProcessor2_0  # takes seconds to import

        self.unet = unet
        self._references: list[ReferenceAttention] = []
        processors: dict[str, object] = {}
        for name in unet.attn_processors:
            processors[name] = AttnProcessor2_0()
            if ".attn1." in name:
                reference = ReferenceAttention(AttnProcessor2_0())
                self._references.append(reference)
                processors[name] = reference
        unet.set_attn_processor(processors)

    def __call__(
        self, latents: Tensor, timestep: Tensor, context: Tensor, reference_latents: Tensor
    ) -> Tensor:
        """Run the U-Net on the reference, then on the latents with attention to the reference.

        Args:
            latents: (B, 4, h, w), scaled for the U-Net.
            timestep: scalar or (B,).
            context: (B, 77, D).
            reference_latents: (B, 4, h', w'), noised to the timestep, scaled for the U-Net.

        Returns:
            (B, 4, h, w).
        """
        self._set_mode("keep")
        self.unet(reference_latents, timestep, encoder_hidden_states=context, return_dict=False)
        self._set_mode("use")
        output: Tensor = self.unet(
            latents, timestep, encoder_hidden_states=context, return_dict=False
        )[0]
        return output

    def _set_mode(self, mode: Literal["keep", "use"]) -> None:
        for reference in self._references:
            reference.mode = mode
