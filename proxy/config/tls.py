"""Certificates: those that redspan shows, and those that it accepts. All files are PEM."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from proxy.config.values import Conflict, KeyPath, Section

if TYPE_CHECKING:
    import ssl


class ClientTls(Section, frozen=True):
    """Files in PEM, for ``https://``. They are read once, when redspan starts."""

    ca_file: str = ""
    """Authorities that the server's certificate may be from; empty: those that the system trusts."""
    cert_file: str = ""
    """A certificate to show to the server, with what leads up to its authority."""
    key_file: str = ""
    """The key of that certificate, without a password."""

    def context(self) -> ssl.SSLContext:
        """For connections of a client. Raises `BadTlsFile`."""
        import ssl

        if self.ca_file:
            _readable("ca_file", self.ca_file)
        try:
            context = ssl.create_default_context(cafile=self.ca_file or None)
        except ssl.SSLError:
            raise BadTlsFile("ca_file", "certificates in PEM", self.ca_file) from None
        load_pair(context, self.cert_file, self.key_file)
        return context

    @property
    def files(self) -> Sequence[str]:
        return [name for name in (self.ca_file, self.cert_file, self.key_file) if name]


class UpstreamTls(ClientTls, frozen=True):
    """Files in PEM, for ``rediss://``. Those that are replaced are read again: for the next connection."""

    server_name: str = ""
    """The name that Redis' certificate is for, and that is asked for (SNI); empty: the host of ``upstream``."""
    verify: bool = True
    """Only a Redis whose certificate is from one of the authorities, and for that name."""

    def context(self) -> ssl.SSLContext:
        import ssl

        context = super().context()
        if not self.verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context


class ServerTls(Section, frozen=True):
    """Files in PEM. With a certificate, clients connect by ``rediss://``. Those that are replaced are read again."""

    cert_file: str = ""
    """The certificate to show to clients, with what leads up to its authority; empty: no TLS."""
    key_file: str = ""
    """Its key, without a password."""
    client_ca_file: str = ""
    """Authorities of clients' certificates: only who shows one is served. Empty: clients need none."""

    def context(self) -> ssl.SSLContext:
        """For connections of a server. Raises `BadTlsFile`."""
        import ssl

        if not self.cert_file:
            raise BadTlsFile("cert_file", "a certificate, as there are other files")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        load_pair(context, self.cert_file, self.key_file)
        if self.client_ca_file:
            _readable("client_ca_file", self.client_ca_file)
            try:
                context.load_verify_locations(self.client_ca_file)
            except ssl.SSLError:
                raise BadTlsFile("client_ca_file", "certificates in PEM", self.client_ca_file) from None
            context.verify_mode = ssl.CERT_REQUIRED
        return context

    @property
    def files(self) -> Sequence[str]:
        return [name for name in (self.cert_file, self.key_file, self.client_ca_file) if name]


class BadTlsFile(ValueError):
    """What is wrong with a file; never what is in it."""

    def __init__(self, field: str, expected: str, found: str = "none", why: str = "") -> None:
        self.field = field
        self.expected = expected
        self.found = f"{found} ({why})" if why else found
        super().__init__(f"tls.{field}: expected {expected}, found {self.found}")


def load_pair(context: ssl.SSLContext, certificate: str, key: str) -> None:
    """A certificate and its key, or neither. Raises `BadTlsFile`."""
    import ssl

    for field, name, other in (("cert_file", certificate, key), ("key_file", key, certificate)):
        if other and not name:
            raise BadTlsFile(field, "a file, as there is a " + ("key" if field == "cert_file" else "certificate"))
        if name:
            _readable(field, name)
    if certificate:
        try:
            # A password that is wrong, or else OpenSSL would ask for it on the terminal.
            context.load_cert_chain(certificate, key, password="")
        except (ssl.SSLError, ValueError):
            raise BadTlsFile("cert_file", "a certificate, and its key without a password", certificate) from None


def wrong(path: KeyPath, tls: ClientTls | ServerTls) -> Iterator[Conflict]:
    """What is wrong with the files of the section at ``path``."""
    try:
        if tls.files:
            tls.context()
    except BadTlsFile as error:
        at = (*path, error.field)
        yield Conflict(at, error.expected, error.found, at)


def unreadable(path: KeyPath, file: str, what: str) -> Iterator[Conflict]:
    """A file that has to be there when redspan starts, and is not, or holds nothing."""
    try:
        empty = not Path(file).read_bytes().strip()
    except OSError as error:
        yield Conflict(path, "a file that can be read", f"{file}: {error.strerror}", path)
        return
    if empty:
        yield Conflict(path, f"a file with {what}", f"{file}, which is empty", path)


def _readable(field: str, name: str) -> None:
    try:
        with Path(name).open("rb") as file:
            file.read(1)
    except OSError as error:
        why = (error.strerror or type(error).__name__).lower()
        raise BadTlsFile(field, "a file that can be read", name, why) from None
