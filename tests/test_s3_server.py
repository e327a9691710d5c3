"""The tests' own S3 server says why it does not start."""

from pathlib import Path

from s3_server import S3Server


def test_a_full_disk_is_told_from_the_midst_of_the_log(tmp_path: Path) -> None:
    server = S3Server(tmp_path / "s3")
    starting = "I1129 10:19:18.322319 disk_location.go:731 dir /data disk free 0.39% < required 1.00%\n"
    waiting = "I1129 10:20:{:02}.655815 volume_growth.go:153 create 7 volume, created 0: no nodes found!\n"
    idle = "I1129 10:20:{:02}.655815 node.go:221 nothing to tell\n"
    server.log.write_text(starting + "".join((waiting + idle).format(n, n) for n in range(60)), "utf-8")
    server.admin.close()
    complaints = server.why_not().split("and ends")[0]
    assert "GB are free" in complaints
    assert "dir /data disk free 0.39% < required 1.00%" in complaints
    assert complaints.count("created 0") == 1
    assert "nothing to tell" not in complaints
