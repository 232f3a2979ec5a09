"""A real Kafka broker for tests and for the laptop, with neither Java nor Docker installed.

`jars.py` fetches what the lock names, `java.py` runs it, `properties.py` writes a node's settings,
`broker.py` starts, stops, kills and freezes nodes, `probe.py` asks them whether they serve, and
`fixture.py` hands a broker to pytest.
"""
