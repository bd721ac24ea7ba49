"""What the last two notebooks need: less to train, attack and defence, federated averaging (notebooks 08 and 09)."""
