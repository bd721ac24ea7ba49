"""What is fetched is right or not there, whatever the source, the network, the disk and other calls do meanwhile."""

import hashlib
import io
import os
import random
import signal
import socket
import subprocess
import sys
import tarfile
import threading
import time
import urllib.request
from pathlib import Path

import pytest
import torch
import torchvision
from bad_server import serving
from filelock import FileLock, Timeout
from own_disk import mounting
from tiny_cifar10 import write_tiny_cifar10
from torchvision.datasets import CIFAR10

from course_utils.__main__ import main
from course_utils.commands import prepare
from course_utils.data import load_cifar10
from course_utils.full_size.catalogue import Item, catalogue
from course_utils.full_size.downloads import Patience, RemoteFile, fetch
from course_utils.models import build_classifier

ROOT = Path(__file__).resolve().parents[1]
BODY = random.Random(0).randbytes(200_000)
FILE = RemoteFile("file.bin", "sha256:" + hashlib.sha256(BODY).hexdigest(), len(BODY), ())
QUICK = Patience(timeout=20, min_rate=0, tries=20, pause=0)
POSIX = pytest.mark.skipif(os.name == "nt", reason="signals, limits and mounts as Linux has them")

# What a source may do that still ends in the right file
GOOD = ("ok", "ignores-range", "another-range", "redirects", "chunked", "without-a-length", "breaks-off", "resets")
# What it may do that does not, and what is said of it
BAD = {
    "page": "answers with a web page",
    "page-without-a-type": "broke off after 64 bytes",
    "page-as-long-as-the-file": "the checksum is wrong",
    "redirects-to-a-page": "answers with a web page",
    "redirects-in-a-circle": "redirects in a circle",
    "shorter": "offers 199,900 bytes where the file has 200,000",
    "longer": "offers 200,100 bytes where the file has 200,000",
    "longer-without-a-length": "sends more than the 200,000 bytes of the file",
    "wrong-bytes": "the checksum is wrong",
    "part-unasked": "sends a part of the file where all was asked for",
    "403": "answers 403 Forbidden",
    "404": "answers 404 Not Found",
    "503": "answers 503 Service Unavailable",
    "resets-at-once": "broke off",
    "stalls": "sent nothing for 1 s",
    "stalls-at-once": "sent nothing for 1 s",
    "nonsense": "broke off",
}


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")


@pytest.fixture
def server():
    with serving(BODY) as server:
        yield server


def put_part(folder: Path, content: bytes, file: RemoteFile = FILE) -> Path:
    part = file.part(folder)
    part.parent.mkdir(parents=True, exist_ok=True)
    part.write_bytes(content)
    return part


def check_right(folder: Path) -> None:
    """The file is there, and beside it nothing but the lock."""
    assert (folder / "file.bin").read_bytes() == BODY
    assert {path.name for path in folder.iterdir()} <= {"file.bin", ".prepare.lock"}


BEGINNINGS = {
    "nothing": b"",
    "a right part": BODY[:70_000],
    "a wrong part": bytes(70_000),
    "as many wrong bytes": bytes(200_000),
    "too much": bytes(300_000),
}


@pytest.mark.parametrize("beginning", BEGINNINGS)
@pytest.mark.parametrize("way", GOOD)
def test_a_source_that_can_give_the_file_gives_it(way, beginning, server, tmp_path):
    if beginning != "nothing":
        put_part(tmp_path, BEGINNINGS[beginning])
    assert fetch(FILE, tmp_path, [server.url(way)], QUICK) == tmp_path / "file.bin"
    check_right(tmp_path)


@pytest.mark.parametrize("beginning", ["nothing", "a right part"])
@pytest.mark.parametrize("way", BAD)
def test_a_source_that_cannot_is_named_and_the_next_one_asked(way, beginning, server, tmp_path, capfd):
    patience = QUICK._replace(timeout=1 if "stalls" in way else 20, tries=2)
    if beginning != "nothing":
        put_part(tmp_path, BEGINNINGS[beginning])
    with pytest.raises(ConnectionError) as error:
        fetch(FILE, tmp_path, [server.url(way)], patience)
    assert f"No source gave file.bin:\n  {server.url(way)}: " in str(error.value)
    assert BAD[way] in str(error.value)
    assert not (tmp_path / "file.bin").exists()

    fetch(FILE, tmp_path, [server.url(way), server.url("ok")], patience)
    check_right(tmp_path)
    assert server.url(way) in capfd.readouterr().err


def test_a_source_that_does_not_exist(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        closed = f"http://127.0.0.1:{free.getsockname()[1]}/file.bin"
    sources = [closed, "http://no-such-host.invalid/file.bin", tmp_path / "share" / "file.bin"]
    with pytest.raises(ConnectionError) as error:
        fetch(FILE, tmp_path, sources, QUICK)
    lines = str(error.value).splitlines()
    assert [line.split(": ")[1].split(" (")[0] for line in lines[1:]] == 2 * ["cannot be reached"] + ["is not there"]


@pytest.mark.parametrize("size", [1, 17, 65_536, 199_999, 200_000])
def test_the_next_call_goes_on_at_the_very_byte(size, server, tmp_path):
    put_part(tmp_path, BODY[:size])
    fetch(FILE, tmp_path, [server.url("ok")], QUICK)
    check_right(tmp_path)
    assert server.asked == ([("ok", f"bytes={size}-")] if size < len(BODY) else [])


def test_a_source_that_breaks_off_is_asked_for_the_rest(server, tmp_path):
    fetch(FILE, tmp_path, [server.url("breaks-off")], QUICK)
    assert [asked for _, asked in server.asked] == [None, "bytes=50000-", "bytes=100000-", "bytes=150000-"]


def test_it_is_not_asked_for_ever_and_what_it_gave_is_kept(server, tmp_path):
    with pytest.raises(ConnectionError, match=r"0\.1 MB of 0\.2 MB are kept; the next call goes on there"):
        fetch(FILE, tmp_path, [server.url("breaks-off")], QUICK._replace(tries=2))
    assert FILE.part(tmp_path).read_bytes() == BODY[:100_000]
    fetch(FILE, tmp_path, [server.url("ok")], QUICK)
    assert server.asked[-1] == ("ok", "bytes=100000-")
    check_right(tmp_path)


def test_a_source_that_brings_nothing_is_asked_once(server, tmp_path):
    with pytest.raises(ConnectionError):
        fetch(FILE, tmp_path, [server.url("resets-at-once")], QUICK)
    assert server.asked == [("resets-at-once", None)]
    assert not FILE.part(tmp_path).exists()


def test_a_wrong_beginning_from_elsewhere_does_not_condemn_a_right_source(server, tmp_path):
    sources = [server.url("wrong-and-breaks-off"), server.url("ok")]
    fetch(FILE, tmp_path, sources, QUICK._replace(tries=2))
    assert [way for way, _ in server.asked] == ["wrong-and-breaks-off"] * 2 + ["ok"] * 2
    check_right(tmp_path)


def test_a_damaged_file_under_the_final_name_is_replaced_and_a_whole_one_left_alone(server, tmp_path):
    (tmp_path / "file.bin").write_bytes(BODY[:-1] + b"?")
    fetch(FILE, tmp_path, [server.url("ok")], QUICK)
    check_right(tmp_path)
    fetch(FILE, tmp_path, [server.url("404")], QUICK)
    assert len(server.asked) == 1


@pytest.mark.parametrize("beginning", [b"", BODY[:70_000], bytes(200_000)])
def test_a_rounded_size_and_the_first_digits_of_the_checksum_are_enough(beginning, server, tmp_path):
    rounded = FILE._replace(size=200_500, slack=1000, checksum=FILE.checksum[:15])
    put_part(tmp_path, beginning, rounded)
    fetch(rounded, tmp_path, [server.url("503"), server.url("ok")], QUICK)
    check_right(tmp_path)


# --- slow sources ---------------------------------------------------------------------------------------------------

SLOW = Patience(timeout=20, min_rate=20_000, window=0.5, tries=3, pause=0)  # the slow ways give some 50 bytes a second


def test_a_slow_source_is_left_for_the_next(server, tmp_path, capfd):
    fetch(FILE, tmp_path, [server.url("slow"), server.url("ok")], SLOW)
    check_right(tmp_path)
    assert "slow/file.bin: is slow, 0 kB/s." in capfd.readouterr().err
    (_, first), (way, after) = server.asked
    assert first is None and way == "ok" and after.startswith("bytes=")  # what the slow one gave is kept


def test_where_all_are_slow_or_fail_the_fastest_is_gone_on_with(server, tmp_path):
    fetch(FILE, tmp_path, [server.url(way) for way in ("slower", "slow-then-fast", "404")], SLOW)
    check_right(tmp_path)
    assert [way for way, _ in server.asked] == ["slower", "slow-then-fast", "404", "slow-then-fast"]


# --- calls that end, and calls at the same time ---------------------------------------------------------------------


def fetching(folder: Path, url: str, prefix=(), setup: str = "") -> subprocess.Popen:
    """A process of its own that fetches FILE."""
    code = (
        f"{setup}\nimport sys; from pathlib import Path; from course_utils.full_size.downloads import *\n"
        f"try: fetch(RemoteFile(*{tuple(FILE)!r}), Path(sys.argv[1]), [sys.argv[2]])\n"
        "except OSError as error: sys.exit(str(error))"
    )
    command = [*map(str, prefix), sys.executable, "-c", code, str(folder), url]
    return subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)


def wait_until(condition, process: subprocess.Popen) -> None:
    end = time.monotonic() + 120
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.05)


def has_begun(part: Path, size: int):
    return lambda: part.exists() and part.stat().st_size >= size


def test_a_killed_call_leaves_its_part_and_a_waiting_one_goes_on_there(server, tmp_path):
    killed = fetching(tmp_path, server.url("stalls"))
    wait_until(has_begun(FILE.part(tmp_path), 30_000), killed)
    waiting = fetching(tmp_path, server.url("ok"))
    assert "Another call is fetching" in waiting.stderr.readline()
    killed.kill()
    killed.communicate()
    _, err = waiting.communicate(timeout=120)
    assert waiting.returncode == 0, err
    check_right(tmp_path)
    assert [way for way, _ in server.asked] == ["stalls", "ok"]
    assert int(server.asked[1][1].removeprefix("bytes=").removesuffix("-")) >= 30_000


def test_of_many_calls_at_once_one_fetches(server, tmp_path):
    calls = [threading.Thread(target=fetch, args=(FILE, tmp_path, [server.url("ok")])) for _ in range(4)]
    for call in calls:
        call.start()
    for call in calls:
        call.join()
    check_right(tmp_path)
    assert len(server.asked) == 1


@POSIX
@pytest.mark.slow
def test_ctrl_c_leaves_the_part_and_says_so(tmp_path):
    file = catalogue()["squeezenet1_1"].files[0]
    part = file.part(tmp_path / "torch home" / "hub" / "checkpoints")
    with serving(bytes(file.size)) as server:
        process = subprocess.Popen(
            [sys.executable, "-m", "course_utils", "prepare", "--only", "squeezenet1_1"]
            + ["--from", server.url("stalls").rpartition("/")[0]],
            cwd=ROOT,
            env=os.environ | {"TORCH_HOME": str(tmp_path / "torch home")},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            # A shell starts what runs in the background with Ctrl-C ignored, and a child inherits that.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        wait_until(has_begun(part, 30_000), process)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    assert "Stopped. What came is kept; the same call goes on there." in err
    assert part.stat().st_size >= 30_000


# --- disks ----------------------------------------------------------------------------------------------------------


@POSIX
def test_a_full_disk_is_called_full_and_the_part_kept(server, tmp_path):
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))"
    process = fetching(tmp_path, server.url("ok"), setup=limit)  # EFBIG: the limit of one file
    assert "The disk is full:" in process.communicate(timeout=120)[1]
    assert FILE.part(tmp_path).stat().st_size <= 100_000
    fetch(FILE, tmp_path, [server.url("ok")], QUICK)
    check_right(tmp_path)
    assert server.asked[-1][1].startswith("bytes=")


@POSIX
def test_a_full_file_system_is_called_full(server, tmp_path):
    process = fetching(tmp_path, server.url("ok"), prefix=[*mounting("size=64k"), tmp_path])
    assert "The disk is full:" in process.communicate(timeout=120)[1]
    assert process.returncode == 1


@POSIX
def test_a_read_only_folder_is_named(server, tmp_path):
    process = fetching(tmp_path, server.url("ok"), prefix=[*mounting("ro"), tmp_path])
    err = process.communicate(timeout=120)[1]
    assert f"{tmp_path} may not be written (Read-only file system). Name another folder." in err
    assert not server.asked


def test_a_file_in_the_place_of_the_folder_is_named(tmp_path):
    (tmp_path / "data").write_text("a file")
    with pytest.raises(OSError, match="data cannot be used .*Name another folder"):
        fetch(FILE, tmp_path / "data", [], QUICK)


# --- the command ----------------------------------------------------------------------------------------------------


def described(path: Path, **changes) -> RemoteFile:
    content = path.read_bytes()
    file = RemoteFile(path.name, "sha256:" + hashlib.sha256(content).hexdigest(), len(content), ())
    return file._replace(**changes)


@pytest.fixture
def small(tmp_path, monkeypatch):
    """A folder with a tiny CIFAR-10 archive and random weights, and a catalogue that knows of these."""
    folder = tmp_path / "made"
    write_tiny_cifar10(folder, monkeypatch, per_batch=2, test=5)
    archive = folder / CIFAR10.filename
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(folder / CIFAR10.base_folder, CIFAR10.base_folder)
    monkeypatch.setattr(CIFAR10, "tgz_md5", hashlib.md5(archive.read_bytes()).hexdigest())
    real = catalogue()["squeezenet1_1"].files[0]
    torch.save(torchvision.models.squeezenet1_1().state_dict(), folder / real.name)
    items = {
        "cifar10": Item("tiny", "data", (described(archive),)),
        "squeezenet1_1": Item("weights", "weights", (described(folder / real.name),)),
        "movielens": catalogue()["movielens"],
    }
    monkeypatch.setattr(prepare, "catalogue", lambda: items)
    monkeypatch.setattr(prepare, "USUAL", ("cifar10", "squeezenet1_1"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch home"))
    return folder


def test_one_prepares_for_the_room(small, tmp_path, monkeypatch, capsys):
    """From a folder onto a stick, from there over Python's own web server to another machine, and used there."""
    stick, data = tmp_path / "a stick", tmp_path / "data"
    assert main(["prepare", "--from", str(small), "--to", str(stick)]) == 0
    assert {path.name for path in stick.iterdir() if path.suffix != ".lock"} == {
        "cifar-10-python.tar.gz",
        "squeezenet1_1-b8a52dc0.pth",
    }
    assert main(["prepare", "--check", "--to", str(stick)]) == 0
    assert main(["prepare", "--check", "--data", str(data)]) == 1
    assert "missing  squeezenet1_1" in capsys.readouterr().out

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1", "--directory", str(stick)]
    room = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    try:
        wait_until(lambda: answers(port), room)
        archive = prepare.catalogue()["cifar10"].files[0]
        put_part(data, (small / archive.name).read_bytes()[:1000], archive)  # this server knows nothing of Range
        assert main(["prepare", "--data", str(data), "--from", f"http://127.0.0.1:{port}/"]) == 0
    finally:
        room.kill()
        room.wait()
    out = capsys.readouterr().out
    assert "of it came before, and are kept" in out
    assert out.endswith("All of it is there.\n")
    assert main(["prepare", "--check", "--data", str(data)]) == 0
    assert "missing" not in capsys.readouterr().out

    monkeypatch.setattr(urllib.request, "urlopen", lambda *_: pytest.fail("the network is asked"))
    assert load_cifar10(data).images.shape == (15, 3, 32, 32)
    model = build_classifier("squeezenet1_1", 10, weights="DEFAULT")
    saved = torch.load(small / "squeezenet1_1-b8a52dc0.pth", weights_only=True)
    assert torch.equal(model.features[0].weight, saved["features.0.weight"])
    # Again for the next stick: what lies here already is copied
    assert main(["prepare", "--data", str(data), "--to", str(tmp_path / "second"), "--only", "squeezenet1_1"]) == 0


def answers(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def test_an_unpacked_data_set_that_is_damaged_is_unpacked_again(small, tmp_path):
    call = ["prepare", "--only", "cifar10", "--from", str(small), "--data", str(tmp_path / "data")]
    assert main(call) == 0
    (tmp_path / "data" / CIFAR10.base_folder / "test_batch").unlink()
    assert main([*call, "--check"]) == 1
    assert main(call) == 0
    assert len(load_cifar10(tmp_path / "data").labels) == 15


def test_two_calls_do_not_unpack_into_one_folder_at_once(small, tmp_path, monkeypatch):
    """One would find the other's files half written, and call the data damaged."""
    held = []

    def unpack(folder, download):
        if download:
            with pytest.raises(Timeout):
                FileLock(Path(folder) / ".prepare.lock", is_singleton=False).acquire(timeout=0)
            held.append(folder)
        return CIFAR10(folder, download=download)

    monkeypatch.setattr(prepare, "CIFAR10", unpack)
    data = str(tmp_path / "data")
    assert main(["prepare", "--only", "cifar10", "--from", str(small), "--data", data]) == 0
    assert held == [data]


def test_a_drive_that_is_not_there_is_named(small, tmp_path, monkeypatch, capsys):
    """On Windows Q:\\data may have no parent that exists."""
    is_dir = Path.is_dir
    monkeypatch.setattr(Path, "is_dir", lambda path: path == small and is_dir(path))
    assert main(["prepare", "--only", "cifar10", "--from", str(small), "--data", str(tmp_path / "data")]) == 1
    assert "its drive is missing" in capsys.readouterr().err


def test_a_mirror_is_asked_first_and_what_fails_does_not_stop_the_rest(small, tmp_path, server, capsys):
    call = ["prepare", "--data", str(tmp_path / "data"), "--mirror", server.url("404").rpartition("/")[0]]
    assert main([*call, "--to", str(tmp_path / "to")]) == 1
    assert [way for way, _ in server.asked] == ["404", "404"]
    err = capsys.readouterr().err
    assert "No source gave cifar-10-python.tar.gz" in err
    assert "No source gave squeezenet1_1-b8a52dc0.pth" in err


@pytest.mark.parametrize(
    ("options", "answer"),
    [
        (["--only", "squeezenet"], "Did you mean squeezenet1_1"),
        (["--mirror", "mirror.example"], "--mirror takes an address"),
        (["--from", "no such folder"], "there is no folder 'no such folder'"),
        (["--only", "movielens", "--to", "stick"], "The licence of movielens forbids to hand it on"),
    ],
)
def test_what_a_user_gets_wrong_is_said_before_anything_is_fetched(options, answer, small, capsys):
    assert main(["prepare", *options]) == 1
    out, err = capsys.readouterr()
    assert answer in err
    assert not out


def test_too_little_room_is_said_before_anything_is_fetched(small, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(prepare.shutil, "disk_usage", lambda _: type("usage", (), {"free": 1_000_000}))
    assert main(["prepare", "--only", "squeezenet1_1", "--from", str(small)]) == 1
    out, err = capsys.readouterr()
    assert "5.0 MB go to" in out and "where 1.0 MB are free" in out
    assert "The disk is too full: 5.0 MB are needed at" in err
    assert not (tmp_path / "torch home").exists()


def test_the_catalogue_is_listed_and_knows_each_file(capsys):
    assert main(["prepare", "--list"]) == 0
    shown = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    items = catalogue()
    assert shown == list(items)
    assert set(prepare.USUAL) <= set(items)
    for item in items.values():
        for file in item.files:
            algorithm, digits = file.checksum.split(":")
            whole = hashlib.new(algorithm).digest_size * 2
            assert len(digits) == (whole if item.place == "data" else 8)
            assert all(source.startswith("https://") for source in file.sources)
            assert Path(file.sources[0]).name == Path(file.name).name


def test_the_sizes_that_torchvision_rounds_fit_the_real_files():
    items = catalogue()
    for name, size in {"resnet18": 46_830_571, "resnet50": 102_540_417}.items():  # as public projects record them
        assert items[name].files[0].fits(size)
        assert not items[name].files[0].fits(size + 3000)


def test_digests_are_fed_from_the_part_and_from_what_follows():
    digest = FILE.digest(io.BytesIO(BODY[:100]))
    digest.update(BODY[100:])
    assert FILE.is_right(digest)
