"""Calls that send mail: `deliver`, `deliver_later`, `deliver_many`, and the results that they return.

Each records first and rings after. Once the ledger's row is committed the platform owes the mail, whatever becomes of
the broker. Applications import the calls from `mailglass`. The modules here load when they are used.
"""
