from types import SimpleNamespace

args = SimpleNamespace(force_fp32=False, fp32_unet=False, disable_metadata=False)
