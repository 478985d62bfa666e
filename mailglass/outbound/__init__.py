"""Calls that send mail: `deliver`, `deliver_later`, `deliver_many`, and their results.

Each records first and rings after. Once the ledger's row is committed, the platform owes the mail, even if the broker
is lost. Applications import the calls from `mailglass`. The modules here load when they are used.
"""
