"""The key sources of all issuers that an endpoint takes, as the tenants file has them now."""

from collections.abc import Callable, Mapping

from ingest.contract.envelope import Source
from ingest.verifying.jwks import KeySource
from ingest.verifying.tenants_file import Directory

KeysByEndpoint = Mapping[Source, Mapping[str, KeySource]]
"""For each endpoint its issuers, and where their keys are."""


class KeySources:
    """`made` makes one of an issuer and a URL. An issuer keeps its source while its URL stays.

    `by_endpoint` and `pinned` are the same mappings for as long as this lives; `pinned` are those,
    by issuer, that a tenant names: nobody else's keys are asked for.
    """

    def __init__(self, live_events: tuple[str, str], made: Callable[[str, str], KeySource]) -> None:
        """`live_events` is the issuer of Live Events, and the URL of its keys."""
        self._made = made
        self._urls: dict[tuple[Source, str], str] = {}
        self._by_endpoint: dict[Source, dict[str, KeySource]] = {"live-events": {}, "pns": {}}
        self._take("live-events", dict([live_events]))
        self.by_endpoint: KeysByEndpoint = self._by_endpoint
        self.pinned: dict[str, KeySource] = {}

    def follow(self, directory: Directory) -> None:
        """These are the platforms and the tenants from here on.

        What is still being fetched of an issuer that has gone comes to its own end: tokens may be
        waiting for it.
        """
        self._take("pns", directory.platforms)
        self.pinned.clear()
        self.pinned |= {
            issuer: source
            for endpoint, sources in self._by_endpoint.items()
            for issuer, source in sources.items()
            if directory.tenants.takes_from(endpoint, issuer)
        }

    def close(self) -> None:
        """Gives up what is being fetched."""
        for sources in self._by_endpoint.values():
            for source in sources.values():
                source.close()

    def _take(self, endpoint: Source, urls: Mapping[str, str]) -> None:
        sources = self._by_endpoint[endpoint]
        for issuer in sources.keys() - urls.keys():
            del sources[issuer], self._urls[endpoint, issuer]
        for issuer, url in urls.items():
            if self._urls.get((endpoint, issuer)) != url:
                self._urls[endpoint, issuer] = url
                sources[issuer] = self._made(issuer, url)
                sources[issuer].recall()
