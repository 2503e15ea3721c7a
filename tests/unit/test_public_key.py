"""Public keys as people paste them: taken if they are good, else refused in a sentence."""

from __future__ import annotations

import subprocess
from functools import cache
from pathlib import Path

import asyncssh
import pytest

from sshgw.public_key import parse_public_key
from zerostor.core.errors import BadRequest


def made(kind: str, bits: int | None = None) -> str:
    more = {} if bits is None else {"key_size": bits}
    return asyncssh.generate_private_key(kind, **more).export_public_key().decode().strip()


def test_a_good_key_is_known_by_its_fingerprint(tmp_path: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "ann at home",
                    "-f", tmp_path / "key"], check=True)
    text = (tmp_path / "key.pub").read_text()
    shown = subprocess.run(["ssh-keygen", "-l", "-f", tmp_path / "key.pub"], check=True,
                           capture_output=True, text=True).stdout
    key = parse_public_key(f"\n {text} \n", 7.0)
    assert key.fingerprint == shown.split()[1]
    assert (key.comment, key.added) == ("ann at home", 7.0)
    assert key.line == " ".join(text.split()[:2])


@pytest.mark.parametrize("kind,bits", [("ecdsa-sha2-nistp256", None), ("ecdsa-sha2-nistp521", None),
                                       ("ssh-rsa", 2048)])
def test_other_kinds_are_taken(kind: str, bits: int | None) -> None:
    text = made(kind, bits)
    assert parse_public_key(text, 0.0).line == " ".join(text.split()[:2])


@cache
def bad_keys() -> dict[str, tuple[str, str]]:
    good = made("ssh-ed25519").split()
    rsa = made("ssh-rsa", 2048).split()
    return {
        "nothing": ("", "one line|begins with"),
        "word": ("hello", "begins with"),
        "small rsa": (made("ssh-rsa", 1024), "2048"),
        "dsa": ("ssh-dss AAAAB3NzaC1kc3MAAACB", "DSA"),
        "certificate": ("ssh-ed25519-cert-v01@openssh.com AAAA", "certificate"),
        "two lines": (" ".join(good) + "\n" + " ".join(good), "one line"),
        "control bytes": (" ".join(good) + " a\x00b", "one line"),
        "option": ('command="sh" ' + " ".join(good), "begins with"),
        "option no-pty": ("no-pty " + " ".join(good), "begins with"),
        "torn": (f"{good[0]} {good[1][:30]}", "damaged"),
        "no base64": (f"{good[0]} ****", "damaged"),
        "type that is not the key's": (f"ssh-ed25519 {rsa[1]}", "damaged"),
        "long": ("ssh-rsa " + "A" * 20_000, "one line"),
    }


@pytest.mark.parametrize("name", list(bad_keys()))
def test_what_is_no_good_key_is_refused(name: str) -> None:
    text, said = bad_keys()[name]
    with pytest.raises(BadRequest, match=said):
        parse_public_key(text, 0.0)


def test_a_private_key_is_refused_and_not_repeated() -> None:
    text = asyncssh.generate_private_key("ssh-ed25519").export_private_key().decode()
    with pytest.raises(BadRequest, match="private key") as refused:
        parse_public_key(text, 0.0)
    assert not any(line in str(refused.value) for line in text.splitlines())
