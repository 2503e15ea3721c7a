"""A public key as somebody pasted it: one line, checked before it is believed."""

from __future__ import annotations

import asyncssh

from sshgw.sftp_wire import Request
from zerostor.core.errors import BadRequest
from zerostor.core.homes import HomeKey

KEY_MAX = 16 * 1024
RSA_MIN = 2048
RSA_MAX = 16_384
COMMENT_MAX = 200
_KINDS = ("ssh-ed25519", "ssh-rsa", "ecdsa-sha2-", "sk-ssh-ed25519@openssh.com",
          "sk-ecdsa-sha2-nistp256@openssh.com")


def parse_public_key(text: str, now: float) -> HomeKey:
    """The key in `text`. now: epoch seconds. Raises BadRequest, which never repeats the text."""
    line = text.strip()
    if "PRIVATE KEY" in line:
        raise BadRequest("this is a private key: keep it secret, and make a new pair if others saw"
                         " it; what is wanted here is the file with .pub at its end")
    if len(line) > KEY_MAX or "\n" in line or "\r" in line or not line.isprintable():
        raise BadRequest("a public key is one line, as in ~/.ssh/id_ed25519.pub")
    words = line.split(None, 2)
    kind = words[0] if words else ""
    if "-cert-" in kind:
        raise BadRequest("certificates are not taken: give the public key itself")
    if kind == "ssh-dss":
        raise BadRequest("DSA keys are broken; make one with `ssh-keygen -t ed25519`")
    if len(words) < 2 or not kind.startswith(_KINDS):
        raise BadRequest("a public key begins with its type, as ssh-ed25519 AAAA...; options in"
                         " front of it are not taken")
    key = _imported(" ".join(words[:2]))
    comment = words[2][:COMMENT_MAX] if len(words) > 2 else ""
    # The type is that of the key itself, whatever the first word says.
    plain = key.export_public_key("openssh").decode().split()
    return HomeKey(key.get_fingerprint(), " ".join(plain[:2]), comment, now)


def _imported(line: str) -> asyncssh.SSHKey:
    try:
        key = asyncssh.import_public_key(line)
    except (asyncssh.KeyImportError, ValueError) as error:
        raise BadRequest("the public key is damaged: copy the whole line") from error
    if key.get_algorithm() == "ssh-rsa":
        bits = _modulus_bits(key)
        if not RSA_MIN <= bits <= RSA_MAX:
            raise BadRequest(f"an RSA key has {RSA_MIN} to {RSA_MAX} bits here, this one has"
                             f" {bits}; make one with `ssh-keygen -t ed25519`")
    return key


def _modulus_bits(key: asyncssh.SSHKey) -> int:
    """From the key's own bytes: string type, mpint exponent, mpint modulus."""
    fields = Request(key.public_data)
    _, _, modulus = fields.string(), fields.string(), fields.string()
    return int.from_bytes(modulus, "big").bit_length()
