"""Every failure that a user can mend. The message says what happened and what to do next.

A command prints the message and exits 2; a server answers 4xx with it. Neither shows a traceback, and no
message may carry image content or a secret.
"""


class ResunetError(Exception):
    """Base of all errors that are the caller's to mend."""


class ImageError(ResunetError):
    """Bytes that are not an image this platform accepts."""


class DataError(ResunetError):
    """A data set that cannot be read, or on which a metric would be a lie."""


class SettingsError(ResunetError):
    """A setting, option or parameter that makes no sense."""


class BusyError(SettingsError):
    """Something of which there is one at a time is under way already: the same will do later."""


class VersionError(ResunetError):
    """A model version whose files are missing, altered, or of a format this release does not know."""


class StoreError(ResunetError):
    """An artifact store, or the disk that it is copied to, that cannot be used now: nothing was found out."""


class RecordsError(ResunetError):
    """The platform's database, spool or blob store cannot be used."""


class RefusedError(ResunetError):
    """A change of stage that a gate does not allow."""
