"""The receiver's tenants file for a school."""

from __future__ import annotations

import json
from typing import Final


def tenants_toml(*, subscription_ids: list[str], deployment_ids: list[str], **texts: str) -> str:
    """The file that admits one school: its platform, its tenant, both its sources.

    `texts` are the other names in the file.
    """
    values: dict[str, str | list[str]] = {
        **texts,
        "subscription_ids": subscription_ids,
        "deployment_ids": deployment_ids,
    }
    return _TENANTS_TOML.format_map({name: json.dumps(value) for name, value in values.items()})


_TENANTS_TOML: Final = """\
[[platform]]
issuer = {platform_issuer}
jwks_url = {platform_jwks_url}

[[tenant]]
name = {name}

[[tenant.live_events]]
root_account_uuid = {root_account_uuid}
subscription_ids = {subscription_ids}

[[tenant.pns]]
issuer = {platform_issuer}
client_id = {client_id}
deployment_ids = {deployment_ids}
"""
