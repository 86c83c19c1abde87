"""The tokens that a request will take, estimated before it is sent. Pure.

Nobody but the provider can know: a token is some four bytes of text in any language, a picture
what its ``detail`` costs, and the answer as much as the request allows, or as much as this model's
answers have taken so far.
"""

from __future__ import annotations

import json
import re
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple, cast

BYTES_PER_TOKEN: Final = 4
#: Around each message stand a few tokens of its own.
_PER_MESSAGE: Final = 4
#: A picture by its ``detail``: the least is a fixed price, the most so many tiles.
_IMAGE: Final = {"low": 85, "high": 1_105}
_IMAGE_AUTO: Final = 765
_OTHER_MEDIA: Final = 1_000
#: Bodies up to this size are parsed; of larger ones the media are taken out and the rest measured.
_PARSED_UP_TO: Final = 1_048_576
_MEDIA = re.compile(rb'"(?:data:[^"]{0,99};base64,)?+[A-Za-z0-9+/=_-]{2000,}+"')
_LIMIT = re.compile(rb'"max_(?:completion_|output_)?tokens"\s{0,9}:\s{0,9}(\d{1,9})')
_LIMITS: Final = ("max_completion_tokens", "max_output_tokens", "max_tokens")
#: Members that hold what is read by the model.
_TEXTS: Final = frozenset(
    {
        "messages", "input", "prompt", "instructions", "content", "text", "tools", "functions",
        "arguments", "output", "name", "query", "documents", "refusal", "reasoning_content",
    }
)  # fmt: skip
_IMAGES: Final = ("image_url", "input_image", "image")
_MEDIA_PARTS: Final = ("input_audio", "input_file", "file", "video_url")
_DEPTH: Final = 32
#: What an answer takes of which nothing is known, and the weight of the latest one.
_FIRST_OUTPUT: Final = 300
_LATEST: Final = 0.1
_MODELS_KEPT: Final = 1_024


class OutputHabit:
    """The average tokens that the answers of each model have taken so far."""

    __slots__ = ("_means",)

    def __init__(self) -> None:
        self._means: OrderedDict[str, float] = OrderedDict()

    def expect(self, model: str) -> int:
        """Return the tokens that an answer of this model is likely to take."""
        return round(self._means.get(model, _FIRST_OUTPUT))

    def note(self, model: str, tokens: int) -> None:
        """Learn what an answer took."""
        mean = self._means.pop(model, float(tokens))
        self._means[model] = mean + _LATEST * (tokens - mean)
        if len(self._means) > _MODELS_KEPT:
            self._means.popitem(last=False)


class Estimate(NamedTuple):
    """The tokens of a request; ``is_bound`` says that it bounds its answer itself."""

    prompt: int
    output: int
    is_bound: bool


def estimate_request(body: bytes, expected_output: int, *, has_output: bool) -> Estimate:
    """Estimate the tokens of a JSON body's prompt, and those that its answer may take.

    ``expected_output`` is what is taken where the request sets no bound; ``has_output`` is false
    of a route whose answers are no text, such as embeddings.
    """
    if len(body) > _PARSED_UP_TO:
        return _estimate_large(body, expected_output if has_output else 0)
    try:
        data = json.loads(body)
    except (ValueError, RecursionError):
        return Estimate(len(body) // BYTES_PER_TOKEN, 0, is_bound=False)
    if not isinstance(data, dict):
        return Estimate(0, 0, is_bound=False)
    fields = cast("Mapping[str, object]", data)
    prompt = sum(_parts(fields, 0))
    if not has_output:
        return Estimate(prompt, 0, is_bound=True)
    choices = fields.get("n")
    many = choices if isinstance(choices, int) and 1 <= choices <= 128 else 1
    bounds = (fields.get(name) for name in _LIMITS)
    bound = next((one for one in bounds if type(one) is int and 0 < one < 10**9), None)
    output = many * (expected_output if bound is None else bound)
    return Estimate(prompt, output, is_bound=bound is not None)


def _estimate_large(body: bytes, expected_output: int) -> Estimate:
    media = images = 0
    for found in _MEDIA.finditer(body):
        media += len(found[0])
        images += 1
    bound = _LIMIT.search(body)
    output = expected_output if bound is None or not expected_output else int(bound[1])
    prompt = (len(body) - media) // BYTES_PER_TOKEN + images * _IMAGE_AUTO
    return Estimate(prompt, output, is_bound=bound is not None)


def _parts(value: object, depth: int) -> Iterator[int]:
    """Yield the tokens of each part that a model reads."""
    if isinstance(value, str):
        yield -(-_length(value) // BYTES_PER_TOKEN)
    elif depth > _DEPTH:
        return
    elif isinstance(value, list):
        for item in cast("list[object]", value):
            # a list of token numbers is a prompt as well
            yield from (1,) if isinstance(item, int) else _parts(item, depth + 1)
    elif isinstance(value, dict):
        yield from _members(cast("Mapping[str, object]", value), depth)


def _members(fields: Mapping[str, object], depth: int) -> Iterator[int]:
    kind = fields.get("type")
    if kind in _IMAGES:
        yield _image(fields)
        return
    if kind in _MEDIA_PARTS:
        yield _OTHER_MEDIA
        return
    if kind == "function":
        yield -(-len(json.dumps(fields, default=str)) // BYTES_PER_TOKEN)
        return
    if "role" in fields:
        yield _PER_MESSAGE
    for name, member in fields.items():
        if name in _TEXTS:
            yield from _parts(member, depth + 1)


def _image(fields: Mapping[str, object]) -> int:
    image = fields.get("image_url")
    detail = fields.get("detail")
    if isinstance(image, dict):
        detail = cast("Mapping[str, object]", image).get("detail", detail)
    return _IMAGE.get(detail, _IMAGE_AUTO) if isinstance(detail, str) else _IMAGE_AUTO


def _length(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "replace"))
