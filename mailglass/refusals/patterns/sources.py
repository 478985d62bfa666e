"""Publications that say what receivers mean, as rows name them."""

from __future__ import annotations

from typing import Final

FIELD: Final = "seen in the field (smtp-field-manual)"
POSTFIX: Final = "Postfix, access(5) and smtpd"
EXIM: Final = "Exim, default configuration"
RFC5321: Final = "RFC 5321 4.2.3"
GOOGLE: Final = "Google, Gmail SMTP errors and codes"
MICROSOFT: Final = "Microsoft, NDRs and SMTP errors in Exchange Online"
SES: Final = "Amazon SES, SMTP response codes"
MIMECAST: Final = "Mimecast, SMTP error codes"
