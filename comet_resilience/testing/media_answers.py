"""Answers of the routes that take or return media: audio, images, videos, files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from .failures import failure
from .replies import ORIGIN, REQUEST_ID, REQUEST_ID_HEADER, Reply, json_reply

if TYPE_CHECKING:
    from .received import ReceivedRequest
    from .text_answers import Setting

#: The smallest PNG: one transparent pixel.
_PIXEL: Final = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJg"
    "gg=="
)
_SUBTITLE: Final = "00:00:00{point}000 --> 00:00:01{point}000"


def transcription(request: ReceivedRequest, setting: Setting) -> Reply:
    """Answer POST /audio/transcriptions and /audio/translations, in each of the formats."""
    wanted = request.fields().get("response_format") or "json"
    if wanted == "verbose_json":
        spoken = {"language": "english", "duration": 1.0, "segments": []}
        return json_reply(200, {"task": "transcribe", "text": setting.text, **spoken})
    if wanted == "text":
        return _file(f"{setting.text}\n".encode(), "text/plain; charset=utf-8")
    if wanted == "srt":
        lines = f"1\n{_SUBTITLE.format(point=',')}\n{setting.text}\n"
        return _file(lines.encode(), "application/x-subrip")
    if wanted == "vtt":
        lines = f"WEBVTT\n\n{_SUBTITLE.format(point='.')}\n{setting.text}\n"
        return _file(lines.encode(), "text/vtt")
    return json_reply(200, {"text": setting.text})


def speech(request: ReceivedRequest, setting: Setting) -> Reply:
    """Answer POST /audio/speech: bytes in chunks, as a voice is produced."""
    return _file((b"ID3", *(word.encode() for word in setting.words())), "audio/mpeg")


def images(request: ReceivedRequest, setting: Setting) -> Reply:
    """Answer POST /images/generations and /images/edits."""
    asked = request.fields()
    image: dict[str, str] = {"b64_json": _PIXEL}
    if asked.get("response_format") == "url":
        image = {"url": f"{ORIGIN}/cdn/{REQUEST_ID}.png"}
    several = [image] * int(asked.get("n") or 1)
    return json_reply(200, {"created": setting.created, "data": several})


def video_created(request: ReceivedRequest, setting: Setting) -> Reply:
    """Answer POST /videos: a job, with the id under both of its names."""
    asked = request.fields()
    name = f"video_{REQUEST_ID}"
    job = _video(name, setting, model=asked["model"], status="queued")
    return json_reply(200, {**job, "task_id": name})


def video(request: ReceivedRequest, setting: Setting) -> Reply:
    """Answer GET /videos/{id}: every job is done."""
    name = request.path.rpartition("/")[2]
    return json_reply(200, _video(name, setting, model="sora-2", status="completed"))


def video_content(request: ReceivedRequest, setting: Setting) -> Reply:
    """Answer GET /videos/{id}/content: a redirect to where the file lies."""
    name = request.path.split("/")[-2]
    location = ("Location", f"{ORIGIN}/cdn/{name}.mp4")
    return Reply(status=302, headers=(location, (REQUEST_ID_HEADER, REQUEST_ID)))


def file_content(request: ReceivedRequest, setting: Setting) -> Reply:
    """Answer GET /files/{id}/content."""
    return _file(setting.text.encode(), "application/octet-stream")


def cdn_file(path: str) -> Reply:
    """Answer GET /cdn/...: the bytes of a picture or a film, for which no key is needed."""
    kind = "image/png" if path.endswith(".png") else "video/mp4"
    return Reply(headers=(("Content-Type", kind),), body=f"the bytes of {path}".encode())


def not_implemented(request: ReceivedRequest, setting: Setting) -> Reply:
    """Refuse a route of the SDK that the gateway knows and does not offer."""
    return failure("not_implemented")


def _video(name: str, setting: Setting, *, model: str, status: str) -> dict[str, object]:
    done = status == "completed"
    return {
        "id": name,
        "object": "video",
        "model": model,
        "status": status,
        "progress": 100 if done else 0,
        "created_at": setting.created,
        "completed_at": setting.created if done else None,
        "seconds": "4",
        "size": "720x1280",
    }


def _file(body: bytes | tuple[bytes, ...], kind: str) -> Reply:
    headers = (("Content-Type", kind), (REQUEST_ID_HEADER, REQUEST_ID))
    return Reply(headers=headers, body=body)
