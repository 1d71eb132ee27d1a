from __future__ import annotations

from pathlib import Path

import pytest

from gateway.errors import Invalid
from gateway.folder import exposed_secret, local_disk, open_to_all, require_folder, weaknesses

MOUNTS = r"""22 27 0:21 / /proc rw,relatime - proc proc rw
27 1 254:0 / / rw,relatime - ext4 /dev/vda rw
40 27 0:40 / /srv/shared rw shared:5 - nfs4 server:/export rw
41 40 254:2 / /srv/shared/local rw - xfs /dev/vdb rw
42 27 0:42 / /mnt/with\040space rw - cifs //server/share rw
43 27 0:43 / /mnt/remote rw - fuse.sshfs me@there: rw
44 27 0:44 / /over rw - nfs server:/export rw
45 44 254:3 / /over rw - ext4 /dev/vdc rw
46 27 0:46 / /host rw - 9p host rw
47 27 0:47 / /layers rw - overlay overlay rw
"""


@pytest.mark.parametrize(
    ("folder", "kind"),
    [
        ("/srv/shared/x/data", "nfs4"),
        ("/mnt/with space/data", "cifs"),
        ("/mnt/remote", "fuse.sshfs"),
        ("/host/data", "9p"),
    ],
)
def test_network_file_system_is_refused_by_name(folder: str, kind: str) -> None:
    reason = local_disk(Path(folder), MOUNTS)
    assert f"network file system ({kind})" in reason
    assert "local disk" in reason


@pytest.mark.parametrize("folder", ["/var/data", "/srv/shared/local/data", "/srv/sharedx", "/over/data", "/layers/d"])
def test_local_file_system_is_accepted(folder: str) -> None:
    assert local_disk(Path(folder), MOUNTS) == ""


def test_folder_is_made_for_its_owner_only(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "data"
    require_folder(folder, make=True)
    assert folder.stat().st_mode & 0o777 == 0o700
    require_folder(folder, make=False)


def test_missing_folder_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match=r"gateway --data .*/data up"):
        require_folder(tmp_path / "data", make=False)
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("make", [True, False])
def test_file_in_place_of_the_folder_is_refused(tmp_path: Path, make: bool) -> None:
    (tmp_path / "data").touch()
    with pytest.raises(Invalid, match="is not a directory"):
        require_folder(tmp_path / "data", make=make)


def test_folder_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(Invalid, match="cannot be made: not a directory"):
        require_folder(tmp_path / "file" / "data", make=True)


@pytest.mark.parametrize(
    ("mode", "open_"), [(0o700, False), (0o755, False), (0o775, False), (0o777, True), (0o702, True)]
)
def test_a_folder_that_everybody_may_write_to_is_a_weakness(tmp_path: Path, mode: int, open_: bool) -> None:
    tmp_path.chmod(mode)
    found = open_to_all(tmp_path)
    assert (found is not None) is open_
    if found is not None:
        assert f"(mode {mode:04o})" in found.text
        assert found.mend == f"Run: chmod 700 {tmp_path}"


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ('[database]\nurl = "postgresql://keeper:hunter2@db/gateway"\n', "url"),
        ('[database]\nmigrate_url = "postgresql://keeper:hunt/er2@db/gateway"\n', "migrate_url"),
        ('[database]\nurl = "postgresql://db/gateway?user=keeper&password=hunter2"\n', "url"),
        ('[engine]\nkind = "upstream"\npassword = "hunter2"\n', "password"),
        ('[metrics]\ntoken = "hunter2-and-much-longer"\n', "token"),
    ],
)
def test_a_secret_in_settings_that_everybody_may_read_is_a_weakness(tmp_path: Path, text: str, names: str) -> None:
    file = tmp_path / "gateway.toml"
    file.write_text(text, encoding="utf-8")
    file.chmod(0o644)
    found = exposed_secret(file)
    assert found is not None
    assert f"({names})" in found.text
    assert "chmod 600" in found.mend
    assert f"{names}_file" in found.mend
    assert "hunt" not in str(found)
    assert weaknesses(tmp_path, file) == (found,)
    file.chmod(0o640)
    assert exposed_secret(file) is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        '[database]\nurl = "postgresql://keeper@db:5432/gateway"\n',
        '[database]\nurl = "sqlite:///gateway.db"\n',
        '[engine]\nurl = "http://127.0.0.1:5001"\nusername = "gateway"\npassword_file = "secret"\n',
        '[server]\nnames = ["::1", "registry.example"]\nport = 443\n',
        '[metrics]\ntoken = ""\ntoken_file = "metrics-token"\n[tokens]\nlifetime_seconds = 300\n',
    ],
)
def test_settings_without_a_password_or_token_may_be_read_by_everybody(tmp_path: Path, text: str) -> None:
    file = tmp_path / "gateway.toml"
    file.write_text(text, encoding="utf-8")
    file.chmod(0o644)
    assert exposed_secret(file) is None
    assert weaknesses(tmp_path, file) == weaknesses(tmp_path, None) == ()
