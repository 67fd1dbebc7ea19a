"""The settings that are written inside of other files are right, by the program's own check."""

from pathlib import Path

import pytest
from deployment_files import settings_texts

from batchscan.settings import SettingsError, settle


@pytest.mark.parametrize("name", list(settings_texts()))
def test_the_program_takes_them(name: str, tmp_path: Path) -> None:
    path = tmp_path / "batchscan.toml"
    path.write_text(settings_texts()[name])
    settled = settle({"config": str(path)})
    assert settled.config.endpoint == "embedded", "nothing leaves the machine before somebody says so"
    assert [str(root) for root in settled.service["roots"]] == ["/skills"]
    path.write_text(settings_texts()[name].replace("cron =", "corn ="))
    with pytest.raises(SettingsError, match="corn"):
        settle({"config": str(path)})
