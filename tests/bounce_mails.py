"""Mails that come back, in the shapes that common systems give them; written for these tests.

`%(verp)s` is where the report goes, `%(id)s` the delivery, `%(proof)s` its token, `%(to)s` the recipient.
"""

from __future__ import annotations

ORIGINAL_HEADER = """\
Return-Path: <%(verp)s>
X-Mailglass-Proof: %(proof)s
From: The Shop <shop@example.org>
To: Ada <%(to)s>
Subject: Your order
Date: Fri, 20 Nov 2026 11:59:00 +0000
Message-ID: <%(id)s@example.org>
X-Mailglass-Id: %(id)s
MIME-Version: 1.0
Content-Type: text/plain; charset=utf-8
"""

POSTFIX = (
    """\
Return-Path: <>
X-Original-To: %(verp)s
Delivered-To: bounces@relay.example.org
Received: by relay.example.org (Postfix) id 4C1D2E3F40; Fri, 20 Nov 2026 12:00:02 +0000 (UTC)
Date: Fri, 20 Nov 2026 12:00:02 +0000 (UTC)
From: MAILER-DAEMON@relay.example.org (Mail Delivery System)
Subject: Undelivered Mail Returned to Sender
To: %(verp)s
Auto-Submitted: auto-replied
MIME-Version: 1.0
Content-Type: multipart/report; report-type=delivery-status;
\tboundary="4A5B6C7D8E.1795176002/relay.example.org"
Message-Id: <20261120120002.4C1D2E3F40@relay.example.org>

This is a MIME-encapsulated message.

--4A5B6C7D8E.1795176002/relay.example.org
Content-Description: Notification
Content-Type: text/plain; charset=us-ascii

The mail system at relay.example.org could not hand over your message.

<%(to)s>: host mx.example.com[192.0.2.7] said: 550 5.1.1 <%(to)s>:
    nobody here has this name (in reply to RCPT TO command)

--4A5B6C7D8E.1795176002/relay.example.org
Content-Description: Delivery report
Content-Type: message/delivery-status

Reporting-MTA: dns; relay.example.org
X-Postfix-Queue-ID: 4A5B6C7D8E
X-Postfix-Sender: rfc822; %(verp)s
Arrival-Date: Fri, 20 Nov 2026 11:59:59 +0000 (UTC)

Final-Recipient: rfc822; %(to)s
Original-Recipient: rfc822;%(to)s
Action: failed
Status: 5.1.1
Remote-MTA: dns; mx.example.com
Diagnostic-Code: smtp; 550 5.1.1 <%(to)s>: nobody here has this name

--4A5B6C7D8E.1795176002/relay.example.org
Content-Description: Undelivered Message
Content-Type: message/rfc822

"""
    + ORIGINAL_HEADER
    + """
Thank you.

--4A5B6C7D8E.1795176002/relay.example.org--
"""
)

EXCHANGE = (
    """\
Received: from EUR01.example.net (2001:db8::1) by EUR02.example.net
 (2001:db8::2) with Microsoft SMTP Server; Fri, 20 Nov 2026 12:00:03 +0000
MIME-Version: 1.0
From: <postmaster@outlook.example.net>
To: <%(verp)s>
Date: Fri, 20 Nov 2026 12:00:03 +0000
Content-Type: multipart/report; report-type=delivery-status;
\tboundary="6f1c3a52-0b3e-4c52-9d2c-1f6a1e0f9a11"
X-MS-Exchange-Message-Is-Ndr:
Content-Language: en-US
Message-ID: <6f1c3a52-0b3e-4c52-9d2c-1f6a1e0f9a11@EUR02.example.net>
In-Reply-To: <%(id)s@example.org>
References: <%(id)s@example.org>
Subject: Undeliverable: Your order
Auto-Submitted: auto-replied

--6f1c3a52-0b3e-4c52-9d2c-1f6a1e0f9a11
Content-Type: multipart/alternative; differences=Content-Type;
\tboundary="0a1b2c3d-aaaa-bbbb-cccc-0123456789ab"

--0a1b2c3d-aaaa-bbbb-cccc-0123456789ab
Content-Type: text/plain; charset="us-ascii"
Content-Transfer-Encoding: quoted-printable

Your message could not be handed over: the address %(to)s is not known=
 at its destination.

--0a1b2c3d-aaaa-bbbb-cccc-0123456789ab
Content-Type: text/html; charset="us-ascii"
Content-Transfer-Encoding: quoted-printable

<html><body>Your message could not be handed over.</body></html>

--0a1b2c3d-aaaa-bbbb-cccc-0123456789ab--

--6f1c3a52-0b3e-4c52-9d2c-1f6a1e0f9a11
Content-Type: message/delivery-status

Reporting-MTA: dns;EUR02.example.net
Received-From-MTA: dns;EUR01.example.net
Arrival-Date: Fri, 20 Nov 2026 12:00:01 +0000

Original-Recipient: rfc822;%(to)s
Final-Recipient: rfc822;%(to)s
Action: failed
Status: 5.1.10
Diagnostic-Code: smtp;550 5.1.10 RESOLVER.ADR.RecipientNotFound; Recipient not found by
 SMTP address lookup
X-Display-Name: Ada

--6f1c3a52-0b3e-4c52-9d2c-1f6a1e0f9a11
Content-Type: message/rfc822

Received: from EUR01.example.net (2001:db8::3) by EUR02.example.net; Fri, 20 Nov 2026 12:00:01 +0000
"""
    + ORIGINAL_HEADER
    + """
--6f1c3a52-0b3e-4c52-9d2c-1f6a1e0f9a11--
"""
)

GMAIL = (
    """\
Delivered-To: %(verp)s
Return-Path: <>
From: Mail Delivery Subsystem <mailer-daemon@googlemail.example>
To: %(verp)s
Auto-Submitted: auto-replied
Subject: Delivery Status Notification (Failure)
References: <%(id)s@example.org>
In-Reply-To: <%(id)s@example.org>
X-Failed-Recipients: %(to)s
Message-ID: <655b4a02.050a0220.c7a1e.0e2f.GMR@mx.googlemail.example>
Date: Fri, 20 Nov 2026 04:00:04 -0800 (PST)
Content-Type: multipart/report; boundary="00000000000077a1b2060a9b1c2d"; report-type=delivery-status

--00000000000077a1b2060a9b1c2d
Content-Type: multipart/related; boundary="00000000000077a3c4060a9b1c2e"

--00000000000077a3c4060a9b1c2e
Content-Type: multipart/alternative; boundary="00000000000077a3d5060a9b1c2f"

--00000000000077a3d5060a9b1c2f
Content-Type: text/plain; charset="UTF-8"

** Address not found **

Your message was not delivered to %(to)s.

--00000000000077a3d5060a9b1c2f
Content-Type: text/html; charset="UTF-8"

<p>Your message was not delivered.</p>

--00000000000077a3d5060a9b1c2f--
--00000000000077a3c4060a9b1c2e
Content-Type: image/png; name="icon.png"
Content-Disposition: attachment; filename="icon.png"
Content-Transfer-Encoding: base64
Content-ID: <icon.png>

iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==
--00000000000077a3c4060a9b1c2e--
--00000000000077a1b2060a9b1c2d
Content-Type: message/delivery-status

Reporting-MTA: dns; googlemail.example
Arrival-Date: Fri, 20 Nov 2026 04:00:03 -0800 (PST)
X-Original-Message-ID: <%(id)s@example.org>

Final-Recipient: rfc822; %(to)s
Action: failed
Status: 5.1.1
Remote-MTA: dns; mx.example.com. (192.0.2.7, the server for the domain example.com.)
Diagnostic-Code: smtp; 550-5.1.1 The account that you tried to reach does not exist.
 550 5.1.1 Look for typing errors.
Last-Attempt-Date: Fri, 20 Nov 2026 04:00:04 -0800 (PST)

--00000000000077a1b2060a9b1c2d
Content-Type: message/rfc822

"""
    + ORIGINAL_HEADER
    + """
Thank you.

--00000000000077a1b2060a9b1c2d--
"""
)

EXIM = (
    """\
Envelope-to: %(verp)s
Delivery-date: Fri, 20 Nov 2026 12:00:05 +0000
Received: from mail by mx.example.net with local (Exim 4.97)
\tid 1wLAbc-00000001abc-0
\tfor %(verp)s;
\tFri, 20 Nov 2026 12:00:05 +0000
X-Failed-Recipients: %(to)s
Auto-Submitted: auto-replied
From: Mail Delivery System <Mailer-Daemon@mx.example.net>
To: %(verp)s
References: <%(id)s@example.org>
Content-Type: multipart/report; report-type=delivery-status; boundary=1795176005-eximdsn-1804289383
MIME-Version: 1.0
Subject: Mail delivery failed: returning message to sender
Message-Id: <E1wLAbc-00000001abc-0@mx.example.net>
Date: Fri, 20 Nov 2026 12:00:05 +0000

--1795176005-eximdsn-1804289383
Content-type: text/plain; charset=us-ascii

A message that you sent was not handed over to one or more of its
recipients. These failed for good:

  %(to)s
    host mx.example.com [192.0.2.7]
    SMTP error from remote mail server after RCPT TO:<%(to)s>:
    550 5.1.1 who is that?

--1795176005-eximdsn-1804289383
Content-type: message/delivery-status

Reporting-MTA: dns; mx.example.net

Action: failed
Final-Recipient: rfc822;%(to)s
Status: 5.0.0
Remote-MTA: dns; mx.example.com
Diagnostic-Code: smtp; 550 5.1.1 who is that?

--1795176005-eximdsn-1804289383
Content-type: text/rfc822-headers

"""
    + ORIGINAL_HEADER
    + """

--1795176005-eximdsn-1804289383--
"""
)

COMPLAINT = (
    """\
From: <feedback@fbl.example.net>
To: <abuse@example.org>
Date: Fri, 20 Nov 2026 12:30:00 +0000
Subject: FW: Your order
Message-ID: <fbl-1@fbl.example.net>
MIME-Version: 1.0
Content-Type: multipart/report; report-type=feedback-report; boundary="part1_13d"

--part1_13d
Content-Type: text/plain; charset="US-ASCII"
Content-Transfer-Encoding: 7bit

This is a report of an unwanted mail.

--part1_13d
Content-Type: message/feedback-report

Feedback-Type: abuse
User-Agent: SomeGenerator/1.0
Version: 1
Original-Rcpt-To: <redacted@example.com>
Arrival-Date: Fri, 20 Nov 2026 12:00:00 +0000
Reported-Domain: example.org
Source-IP: 192.0.2.1

--part1_13d
Content-Type: message/rfc822
Content-Disposition: inline

"""
    + ORIGINAL_HEADER.replace("To: Ada <%(to)s>", "To: redacted").replace("Return-Path: <%(verp)s>\n", "")
    + """
Thank you.

--part1_13d--
"""
)

OUT_OF_OFFICE = """\
From: Ada <%(to)s>
To: <%(verp)s>
Subject: Automatic reply: Your order
Date: Fri, 20 Nov 2026 12:00:06 +0000
Message-ID: <ooo-1@example.com>
In-Reply-To: <%(id)s@example.org>
Auto-Submitted: auto-generated
X-Auto-Response-Suppress: All
MIME-Version: 1.0
Content-Type: text/plain; charset="us-ascii"

I am away until Monday.
"""

DELIVERY_STATUSES = {"postfix": POSTFIX, "exchange": EXCHANGE, "gmail": GMAIL, "exim": EXIM}
ALL = {**DELIVERY_STATUSES, "complaint": COMPLAINT, "out_of_office": OUT_OF_OFFICE}


def written(shape: str, *, verp: str, id: str, proof: str, to: str = "ada@example.com", crlf: bool = True) -> bytes:
    """One of these mails with its blanks filled in."""
    text = shape % {"verp": verp, "id": id, "proof": proof, "to": to}
    return (text.replace("\n", "\r\n") if crlf else text).encode()
