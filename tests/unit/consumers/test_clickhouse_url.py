"""Where a ClickHouse server is, as settings say it."""

from pathlib import Path

import pytest

from consumers.sinks.clickhouse_url import Address


def test_user_and_password_may_have_any_character() -> None:
    address = Address.of("clickhouse://for%40bay:p%40ss%2Fw%3Ard@ch.school.example:9123/")
    assert address == Address(
        host="ch.school.example", port=9123, user="for@bay", password="p@ss/w:rd"
    )


@pytest.mark.parametrize(
    "url",
    ["clickhouse://h?secure=true", "clickhouse://h/?secure=1"],
)
def test_tls_has_a_port_of_its_own(url: str) -> None:
    assert Address.of(url) == Address(host="h", port=8443, secure=True)


def test_without_port_user_and_tls_it_is_a_server_as_it_is_installed() -> None:
    assert Address.of("clickhouse://localhost") == Address(host="localhost", port=8123)


def test_an_authority_of_ones_own_may_be_named() -> None:
    url = "clickhouse://h:1/?secure=true&ca_file=/etc/ssl/school.pem"
    assert Address.of(url).ca_file == Path("/etc/ssl/school.pem")


@pytest.mark.parametrize(
    "url",
    [
        "clickhouse://u:secret@",
        "clickhouse://u:secret@h:port",
        "clickhouse://u:secret@h/?secure=maybe",
        "clickhouse://u:secret@h/?verify=false",
        "clickhouse://u:secret@h/?secure",
        "clickhouse://u:secret@h/database",
    ],
)
def test_what_is_wrong_is_said_without_the_password(url: str) -> None:
    with pytest.raises(ValueError, match=r"clickhouse://user:password|FOREBAY_STORE__SCHEMA") as no:
        Address.of(url)
    assert "secret" not in str(no.value)


def test_an_address_is_shown_without_the_password() -> None:
    address = Address.of("clickhouse://u:secret@h")
    assert str(address) == "h:8123"
    assert "secret" not in repr(address)
