from torch import nn


class _Castable:
    comfy_cast_weights = False


class disable_weight_init:
    class Linear(_Castable, nn.Linear): ...

    class Conv2d(_Castable, nn.Conv2d): ...

    class ConvTranspose2d(_Castable, nn.ConvTranspose2d): ...

    class GroupNorm(_Castable, nn.GroupNorm): ...

    class LayerNorm(_Castable, nn.LayerNorm): ...
