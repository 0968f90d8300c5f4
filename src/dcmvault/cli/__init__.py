"""The command line."""

import sys

from dcmvault.i18n import gettext as _

# Before anything asks for what only POSIX has.
if sys.platform == "win32":
    sys.exit(_("dcmvault does not run on Windows itself. Use WSL 2, or a container."))
