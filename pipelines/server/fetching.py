"""Images from what clients send: addresses, data URIs and base64."""

from __future__ import annotations

import asyncio
import base64
import binascii
import io

from PIL import Image

from ..errors import BadAnswer, InvalidInput
from ..images.formats import open_image
from ..modelslab.transport import HTTP_ERRORS, make_client

MAX_BYTES = 20 * 2**20
MAX_PIXELS = 50_000_000
SECONDS = 10.0


async def fetch_image(source: str, *, allow_private: bool = False) -> bytes:
    """The file of an image.

    Args:
        source: an http(s) address, a data URI, or base64.
        allow_private: whether the address may lead to a private network.

    Raises:
        InvalidInput: if it cannot be had, is too large, or is no image.
    """
    if source.lower().startswith(("http://", "https://")):
        content = await _fetched(source, allow_private)
    else:
        content = decoded(source)
    await asyncio.to_thread(check_image, content)
    return content


def decoded(text: str) -> bytes:
    """The bytes of a data URI or of bare base64.

    Raises:
        InvalidInput: if it is neither, or too large.
    """
    head, comma, rest = text.partition(",")
    if comma and not (head.lower().startswith("data:") and head.lower().endswith(";base64")):
        raise InvalidInput("The image must be an http(s) address, a data URI or base64.")
    if len(text) > MAX_BYTES * 4 // 3 + 200:
        raise InvalidInput(f"The image is larger than {MAX_BYTES // 2**20} MiB.")
    try:
        return base64.b64decode("".join((rest if comma else text).split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidInput("The image must be an http(s) address, a data URI or base64.") from error


def check_image(content: bytes) -> None:
    """Look at an image's head; nothing is decoded.

    Raises:
        InvalidInput: if it is no image or has too many pixels.
    """
    try:
        with open_image(io.BytesIO(content)) as opened:
            width, height = opened.size
    except Image.DecompressionBombError:
        width = height = MAX_PIXELS
    except Exception as error:  # Pillow's plugins raise whatever goes wrong in them
        raise InvalidInput("What was sent as an image is none that can be read.") from error
    if width * height > MAX_PIXELS:
        raise InvalidInput(f"The image has more than {MAX_PIXELS:,} pixels: make it smaller.")


async def _fetched(address: str, allow_private: bool) -> bytes:
    content = bytearray()
    try:
        async with make_client(http=True, private=allow_private) as client:

            async def read() -> None:
                async with client.stream("GET", address, follow_redirects=True) as response:
                    if response.status_code != 200:
                        raise InvalidInput(
                            f"The image's address answers with HTTP {response.status_code}."
                        )
                    async for part in response.aiter_bytes():
                        content.extend(part)
                        if len(content) > MAX_BYTES:
                            raise InvalidInput(
                                f"The image is larger than {MAX_BYTES // 2**20} MiB."
                            )

            await asyncio.wait_for(read(), SECONDS)
    # One sentence for all, or it would tell which doors of a private network are open.
    except (*HTTP_ERRORS, BadAnswer, TimeoutError, asyncio.TimeoutError) as error:
        raise InvalidInput(
            "The image's address must be one of the open internet that answers within"
            f" {SECONDS:.0f} seconds."
        ) from error
    return bytes(content)
