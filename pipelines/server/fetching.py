"""Read the images in requests: URLs, data URIs and base64."""

from __future__ import annotations

import asyncio
import base64
import binascii
import io

import anyio
import httpx
from PIL import Image

from ..errors import AddressRefused, InvalidInput
from ..images.formats import PHOTO_FORMATS, open_image
from ..net import HTTP_ERRORS, Access, TooLarge, download, make_client, parse_url

MAX_BYTES = 20 * 2**20
MAX_PIXELS = 50_000_000
TIMEOUT_S = 10.0
_MAX_HEADER_CHARACTERS = 200  # of a data URI
_URL_SAFE = bytes.maketrans(b"-_", b"+/")


async def fetch_image(source: str, *, allow_private: bool = False) -> bytes:
    """Download or decode an image, and return the content of its file.

    Args:
        source: an http(s) URL, a data URI, or base64.
        allow_private: whether to allow URLs in a private network.

    Raises:
        InvalidInput: if the image cannot be fetched, is too large or is not readable.
    """
    if source[:8].lower().startswith(("http://", "https://")):
        content = await _download(source, allow_private)
    else:
        content = await asyncio.to_thread(decode_base64, source)
    await asyncio.to_thread(check_image, content)
    return content


def decode_base64(text: str) -> bytes:
    """Decode a data URI or bare base64 as leniently as browsers do.

    Whitespace, percent-encoding, missing padding and the URL-safe alphabet are accepted.

    Raises:
        InvalidInput: if the text is neither, or the image is too large.

    Source: WHATWG, Fetch ("data: URL processor") and Infra ("forgiving-base64 decode").
    """
    header, comma, body = text.partition(",")
    if not comma:
        header, body = "data:;base64", text
    header = "".join(header[:_MAX_HEADER_CHARACTERS].lower().split())
    try:
        if not (header.startswith("data:") and header.endswith(";base64")):
            raise ValueError("no data URI")
        if len(body) > MAX_BYTES * 2:
            raise _too_large()
        content = _forgiving_base64(body.encode("ascii"))
    except ValueError as error:
        if isinstance(error, InvalidInput):
            raise
        raise InvalidInput("image must be an http(s) URL, a data URI or base64.") from error
    if len(content) > MAX_BYTES:
        raise _too_large()
    return content


def _forgiving_base64(text: bytes) -> bytes:
    if b"%" in text:
        # Decode percent-encoding as quoted-printable ("=" instead of "%"), to use little memory.
        text = binascii.a2b_qp(text.replace(b"=", b"=3D").replace(b"%", b"="))
    text = text.translate(_URL_SAFE, delete=b" \t\n\f\r").removesuffix(b"=").removesuffix(b"=")
    return base64.b64decode(text + b"=" * (-len(text) % 4), validate=True)


def check_image(content: bytes) -> None:
    """Check an image's format and size from its header, without decoding pixels.

    Raises:
        InvalidInput: if the image is not readable or has too many pixels.
    """
    try:
        with open_image(io.BytesIO(content)) as opened:
            width, height = opened.size
    except Image.DecompressionBombError:
        width = height = MAX_PIXELS
    except Exception as error:  # Pillow's plugins raise all kinds of exceptions
        raise InvalidInput(
            f"image is not a readable image: send one of {', '.join(PHOTO_FORMATS)}."
        ) from error
    if width * height > MAX_PIXELS:
        raise InvalidInput(
            f"image has {width} x {height} pixels: send at most {MAX_PIXELS:,} pixels."
        )


async def _download(address: str, allow_private: bool) -> bytes:
    parse_url(address)
    content = bytearray()
    access = Access(http=True, private=allow_private, proxies=allow_private)
    try:
        with anyio.fail_after(TIMEOUT_S):
            async with make_client(access) as client:
                await download(client, address, content.extend, MAX_BYTES)
    except TooLarge as error:
        raise _too_large() from error
    except httpx.HTTPStatusError as error:
        raise InvalidInput(f"The image's URL answered with {error}.") from error
    # One message for all failures: different ones would reveal open ports of a private network.
    except (*HTTP_ERRORS, AddressRefused, TimeoutError) as error:
        raise InvalidInput(
            "The image's URL must be on the open internet and answer within"
            f" {TIMEOUT_S:.0f} seconds."
        ) from error
    return bytes(content)


def _too_large() -> InvalidInput:
    return InvalidInput(f"The image is larger than {MAX_BYTES // 2**20} MiB.")
