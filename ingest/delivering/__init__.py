"""Record to Receipt: `delivery` decides, `kafka` or `embedded` makes durable.

`port` is what both must do; `partitioner` places keys; `topic_admin` makes topics.
"""
