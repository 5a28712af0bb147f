"""The handler of a directory, made from the settings.

Knows which setting becomes which argument of `Files` and `Uploads`. Does not know what they do with it.
"""

from __future__ import annotations

from ..config import Config
from ..handlers.middleware.basic_auth import parse_user
from ..handlers.middleware.write_auth import WriteAuth
from ..handlers.static.files import Files
from ..handlers.static.media_types import parse_type
from ..handlers.uploads.upload import FORM, Uploads
from ..http.handler import BaseHandler
from .chain import site_headers

__all__ = ["new_directory"]


def new_directory(config: Config) -> BaseHandler:
    """Returns the handler of the directory, with uploads if the settings want them.

    It adds the headers of the settings itself, since it has rules of its own for files.

    Raises:
        OSError: the directory cannot be read; the text names it.
    """
    headers = site_headers(config)
    try:
        files = Files(
            config.directory,
            symlinks=config.symlinks,
            hidden=config.hidden,
            clean_urls=config.clean_urls,
            spa=config.spa,
            compress=config.compress,
            listing=config.listing,
            zip=config.zip,
            headers=headers,
            types=dict(map(parse_type, config.type)),
            form=FORM if config.upload else "",
        )
        if not config.upload:
            return files
        uploads = Uploads(
            files,
            config.directory,
            overwrite=config.upload_overwrite,
            symlinks=config.symlinks,
            hidden=config.hidden,
            headers=headers.always,
        )
        writers = dict(map(parse_user, config.upload_auth))
        return WriteAuth(uploads, writers, headers=headers.always) if writers else uploads
    except OSError as error:
        raise OSError(error.errno, f"cannot serve {config.directory!r}: {error.strerror}") from None
