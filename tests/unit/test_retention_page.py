"""The page of how long data are kept is that of the tables, and each class can be set."""

import pytest
from pydantic import ValidationError

from deploy.commands.retention import KEEPINGS
from shared.kept import AUDIT, KEPT, RetentionSettings
from shared.settings import ServiceSettings
from tests.retention import PAGE, page


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run python -m tests.retention and look at what has changed"


def test_each_setting_is_of_one_class() -> None:
    assert sorted(kept.setting for kept in KEPT) == sorted(RetentionSettings.model_fields)
    assert {service for kept in KEPT if kept is not AUDIT for service in kept.services} == set(KEEPINGS)


def test_settings_change_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAPOR_RETENTION__INBOX_DAYS", "90")
    assert ServiceSettings().retention.inbox_days == 90
    monkeypatch.setenv("LAPOR_RETENTION__INBOX_DAYS", "0")
    with pytest.raises(ValidationError, match="greater than or equal to 30"):
        ServiceSettings()
