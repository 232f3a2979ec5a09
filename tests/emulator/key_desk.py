"""The keys of one Canvas: who shows them, and how they are rotated."""

from __future__ import annotations

import asyncio

from tests.emulator.key_server import KeyServer
from tests.emulator.key_store import Keys


class KeyDesk:
    """Keys that sign and a server that shows them."""

    def __init__(self, keys: Keys, *, port: int) -> None:
        self.keys = keys
        self.key_server = KeyServer(keys, port=port)
        self._one_rotation = asyncio.Lock()

    @property
    def jwks_url(self) -> str:
        """Where the Live Events keys are."""
        return self.key_server.live_events_url

    @property
    def platform_jwks_url(self) -> str:
        """Where the LTI platform's keys are."""
        return self.key_server.platform_url

    async def rotate_keys(self) -> None:
        """Rotate both rings, also in mid-sending: what is signed from now on has the new keys.

        The keys are made in a thread, so that nothing that is being sent is held up.
        """
        async with self._one_rotation:
            self._rotate(await asyncio.to_thread(self.keys.rotated))

    def rotate_live_events_keys(self) -> None:
        """Sign with the next Live Events key from now on, and show the rotated set."""
        self._rotate(Keys(live_events=self.keys.live_events.rotated(), platform=self.keys.platform))

    def rotate_platform_keys(self) -> None:
        """Sign with the next LTI key from now on, and show the rotated set."""
        self._rotate(Keys(live_events=self.keys.live_events, platform=self.keys.platform.rotated()))

    def _rotate(self, keys: Keys) -> None:
        self.keys = keys
        self.key_server.show(keys)
