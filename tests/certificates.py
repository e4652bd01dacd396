"""Certificates for tests, by the ``openssl`` command: an authority, a server at 127.0.0.1, a client."""

from __future__ import annotations

import ssl
import subprocess
from pathlib import Path
from typing import NamedTuple


class Certificates(NamedTuple):
    """Files in PEM."""

    ca: Path
    server: Path
    server_key: Path
    client: Path
    client_key: Path
    locked_key: Path
    """The client's, with a password."""

    def server_context(self, *, mutual: bool = False) -> ssl.SSLContext:
        """``mutual``: it wants a client's certificate, by the same authority."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.server, self.server_key)
        if mutual:
            context.load_verify_locations(self.ca)
            context.verify_mode = ssl.CERT_REQUIRED
        return context


def make(folder: Path) -> Certificates:
    made = Certificates(*(folder / f"{name}.pem" for name in Certificates._fields))
    key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2"
    authority = f"-x509 {key} -subj /CN=authority -keyout {folder / 'ca_key.pem'} -out {made.ca}"
    _openssl(f"req {authority} -addext keyUsage=critical,keyCertSign,cRLSign")
    signed = f"-CA {made.ca} -CAkey {folder / 'ca_key.pem'} -addext basicConstraints=critical,CA:FALSE"
    for name, file, key_file in (("server", made.server, made.server_key), ("client", made.client, made.client_key)):
        names = "-addext subjectAltName=IP:127.0.0.1,DNS:localhost"
        _openssl(f"req -x509 {key} {signed} -subj /CN={name} {names} -keyout {key_file} -out {file}")
    _openssl(f"pkcs8 -topk8 -in {made.client_key} -out {made.locked_key} -passout pass:secret")
    return made


def _openssl(arguments: str) -> None:
    subprocess.run(["openssl", *arguments.split()], check=True, capture_output=True)
