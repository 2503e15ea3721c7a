"""Links as people paste them."""

from __future__ import annotations

from gateway.http_client import Client
from zerostor.core.link import Hash, format_link, parse_link


def read_link(text: str, client: Client) -> tuple[Client, Hash, str]:
    """(where to ask, hash, `HASH.ext`) of a HASH, a HASH.ext, or a full address of one.

    Raises BadLink, BadExtension.
    """
    place, _, name = text.partition("?")[0].partition("#")[0].rpartition("/")
    parsed, extension = parse_link(name)
    if place:
        client = client.at(place)
    return client, parsed, format_link(parsed, extension)
