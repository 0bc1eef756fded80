"""Proving that nothing is missing, and mending what is: `verify` and `repair`, without a terminal.

scope (which offsets) → inventory (what the bucket lists) → ledger_proof and Kafka (what the rest was) → verification →
result → report, page; `content` compares bytes, `repair` writes again.
"""
