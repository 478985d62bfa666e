"""Amazon SES: sends by API v2, hears of events through SNS over HTTPS or an SQS queue."""

from mailglass.providers.ses.options import SESOptions
from mailglass.providers.ses.provider import SendQuota, SESProvider, poll

__all__ = ["SESOptions", "SESProvider", "SendQuota", "poll"]
