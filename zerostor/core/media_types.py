"""Content-Type by extension: a fixed list, the same on every host; no client decides."""

from __future__ import annotations

DEFAULT = "application/octet-stream"

_TYPES = {
    "application/gzip": "gz tgz tar.gz",
    "application/json": "json map",
    "application/msword": "doc",
    "application/ogg": "ogx",
    "application/pdf": "pdf",
    "application/rtf": "rtf",
    "application/vnd.ms-excel": "xls",
    "application/vnd.ms-powerpoint": "ppt",
    "application/vnd.oasis.opendocument.spreadsheet": "ods",
    "application/vnd.oasis.opendocument.text": "odt",
    "application/vnd.openxmlformats-officedocument.presentationml.presentation": "pptx",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": "xlsx",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": "docx",
    "application/wasm": "wasm",
    "application/x-7z-compressed": "7z",
    "application/x-bzip2": "bz2 tar.bz2",
    "application/x-tar": "tar",
    "application/x-xz": "xz tar.xz",
    "application/xml": "xml",
    "application/zip": "zip",
    "application/zstd": "zst tar.zst",
    "audio/aac": "aac",
    "audio/flac": "flac",
    "audio/midi": "mid midi",
    "audio/mp4": "m4a",
    "audio/mpeg": "mp3",
    "audio/ogg": "ogg oga opus",
    "audio/wav": "wav",
    "audio/webm": "weba",
    "font/otf": "otf",
    "font/ttf": "ttf",
    "font/woff": "woff",
    "font/woff2": "woff2",
    "image/apng": "apng",
    "image/avif": "avif",
    "image/bmp": "bmp",
    "image/gif": "gif",
    "image/heic": "heic",
    "image/jpeg": "jpg jpeg jpe",
    "image/png": "png",
    "image/svg+xml": "svg",
    "image/tiff": "tif tiff",
    "image/webp": "webp",
    "image/x-icon": "ico",
    "text/calendar; charset=utf-8": "ics",
    "text/css; charset=utf-8": "css",
    "text/csv; charset=utf-8": "csv",
    "text/html; charset=utf-8": "html htm",
    "text/javascript; charset=utf-8": "js mjs",
    "text/markdown; charset=utf-8": "md markdown",
    "text/plain; charset=utf-8": "txt text log ini conf toml yaml yml py c h cpp rs go sh sql",
    "video/mp2t": "ts",
    "video/mp4": "mp4 m4v",
    "video/mpeg": "mpeg mpg",
    "video/ogg": "ogv",
    "video/quicktime": "mov",
    "video/webm": "webm",
    "video/x-matroska": "mkv",
    "video/x-msvideo": "avi",
}
_BY_EXTENSION = {ext: media for media, exts in _TYPES.items() for ext in exts.split()}
_INERT = ("image/", "audio/", "video/", "text/plain;")
_ACTIVE = ("image/svg+xml",)


def media_type(extension: str) -> str:
    """The Content-Type of an object; DEFAULT for an extension that is not listed."""
    return _BY_EXTENSION.get(extension) or _BY_EXTENSION.get(extension.rpartition(".")[2], DEFAULT)


def is_inert(extension: str) -> bool:
    """Whether a browser only shows or plays it: pictures, sound, video, plain text. All else may
    run scripts, now or in a browser to come.
    """
    media = media_type(extension)
    return media.startswith(_INERT) and media not in _ACTIVE
