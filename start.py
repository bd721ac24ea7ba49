"""Make the environment of the course where it is missing, and start something in it.

    python start.py lab           open JupyterLab on the first notebook
    python start.py lab --copy DIR      open it on copies in DIR, which no update changes
    python start.py test          run every test and every notebook
    python start.py notebooks     run all notebooks again and save them
    python start.py run ...       run Python in the environment: start.py run -m course_utils pretrain
    python start.py test-oldest   run the tests on the oldest versions that pyproject.toml allows
    python start.py lock          write constraints.txt again, from the newest versions
    python start.py clean         remove the environments

On Windows write "py start.py lab". What follows the first word is passed on: start.py lab --no-browser.

COURSE_TORCH=BUILD   takes that build of torch: cpu, cu130, the address of an index that has it, or pypi for PyPI's own.
                     Set it before the first call. Without it, Linux takes cpu where it finds no NVIDIA driver.
COURSE_PYTHON=FILE   uses that Python and what it has installed, and installs nothing
Called in the conda environment of this course, it uses that one, and installs nothing either.
"""

# A Python that is too old must be able to read this file to say so: no f-strings, no pathlib, no type hints.
import argparse
import contextlib
import datetime
import glob
import hashlib
import io
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

ROOT = os.path.dirname(os.path.realpath(__file__))
WINDOWS = os.name == "nt"
STAMP = "course-stamp.json"  # stands in an environment; written last, so only a finished one has it

WRONG_PYTHON = """This is {found}; the course needs a 64-bit Python 3.{oldest} to 3.{newest}.
None was found on this machine. Install Python {advised} (the newest of all may be too new):
    Windows         winget install Python.Python.{advised}
                    py -{advised} start.py lab
    macOS           brew install python@{advised}    or an installer of {advised}: https://www.python.org/downloads/macos/
                    python{advised} start.py lab
    Debian, Ubuntu  apt install python{advised} python{advised}-venv    (Fedora: dnf install python{advised})
                    python{advised} start.py lab
Where your system does not have {advised}, take the same line for {others}.
Or let conda bring its own Python: the README says how."""
ADVISED = 13  # the Python 3 that a reader who has none that fits is told to install
OTHER_PYTHON = "This is {found}, which the course cannot use; going on with Python {version}."
NO_SPACE = """The installation needs about {needed} GB of disk space; {free:.1f} GB are free at {folder}.
Make room. On Linux the CPU build of torch takes about 2 GB, PyPI's 7: COURSE_TORCH=cpu asks for the small one."""
NO_VENV = """Python could not make an environment; its own message is above.
On Debian and Ubuntu the missing part is: apt install python3-venv"""
NOT_REMOVED = """Could not remove {folder}: {error}.
Close JupyterLab and every terminal that uses it, and call this again."""
NOT_YOURS = """The environment {folder} has to be made anew, and you may not write there.
Ask whoever set it up to call: python start.py run --version"""
NOT_COPIED = """Could not copy the notebooks to {folder}: {error}.
Name a folder that you may write into: start.py lab --copy DIR"""
NOT_INSTALLED = """The installation did not finish; pip's own message is above. Call this again to go on.
- No network, or a slow one: name a mirror nearby by PIP_INDEX_URL or in pip's configuration (see the README).
- A full disk: COURSE_TORCH=cpu asks for the CPU build of torch, on Linux about 2 GB instead of 7."""
NOT_REACHED = """{index} does not answer in time, or does not have the torch that the course needs.
Taking PyPI's torch, which is made for NVIDIA's GPUs on Linux and runs without one too: 3.3 GB to download there.
To take the small build all the same, press Ctrl+C and name a mirror of that index: COURSE_TORCH=https://.../cpu"""


def say(text):
    """Tell the reader, on stderr: it gets any letter past any console, and stdout is for what is started."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def stop(text):
    sys.exit("\n" + text)


def read(name):
    with io.open(os.path.join(ROOT, name), encoding="utf-8") as file:
        return file.read()


def write(path, text):
    with io.open(path, "w", encoding="utf-8", newline="\n") as file:
        file.write(text)


def python_limits():
    """The oldest Python 3 that pyproject.toml allows, and the first that it does not: [11, 16] for >=3.11,<3.16."""
    limits = re.search(r'requires-python = ">=3\.(\d+),<3\.(\d+)"', read("pyproject.toml")).groups()
    return [int(minor) for minor in limits]


def complaint(version, bits):
    """What to say to a Python that will not do, or None."""
    oldest, above = python_limits()
    if bits == 64 and (3, oldest) <= tuple(version[:2]) < (3, above):
        return None
    others = " or ".join("3.{}".format(minor) for minor in range(oldest, above) if minor != ADVISED)
    limits = {"oldest": oldest, "newest": above - 1, "advised": "3.{}".format(ADVISED), "others": others}
    return WRONG_PYTHON.format(found=called(version, bits), **limits)


def called(version, bits):
    return "a {}-bit Python {}.{}".format(bits, version[0], version[1])


def fitting_python(windows=WINDOWS):
    """The path of another Python on this machine that will do, the one advised first; None where there is none."""
    oldest, above = python_limits()
    # It has to say who it is: a name on the PATH can belong to a Python that is gone, or lacks its venv module.
    question = (
        "import ensurepip, venv, sys as s; print(s.executable); print(s.version_info[1]); print(s.maxsize > 2**32)"
    )
    for minor in sorted(range(oldest, above), key=lambda minor: (minor != ADVISED, -minor)):
        command = ["py", "-3.{}".format(minor)] if windows else ["python3.{}".format(minor)]
        with io.open(os.devnull, "w") as nothing:
            try:
                asked = subprocess.Popen(command + ["-c", question], stdout=subprocess.PIPE, stderr=nothing)
                answer = asked.communicate()[0].decode("utf-8", "replace").splitlines()
            except OSError:
                continue
        if answer[1:] == [str(minor), "True"]:
            return answer[0]
    return None


def python_in(folder, windows=WINDOWS):
    return os.path.join(folder, "Scripts", "python.exe") if windows else os.path.join(folder, "bin", "python")


def read_stamp(folder):
    try:
        with io.open(os.path.join(folder, STAMP), encoding="utf-8") as file:
            return json.load(file)
    except (OSError, ValueError):
        return {}


def wanted_stamp(folder, pins):
    """What the stamp of a good environment says: where it was made, by which Python, to hold what."""
    packages = hashlib.sha256((read("pyproject.toml") + pins).encode("utf-8")).hexdigest()
    return {"folder": folder, "python": "{}.{}".format(*sys.version_info[:2]), "packages": packages}


def why_anew(folder, made, wanted):
    """Why an environment cannot be kept, in words. None where it can, though its packages may change."""
    if not os.path.isdir(folder):
        return "there is none yet"
    if not made:
        return "an earlier installation did not finish"
    if not os.path.exists(python_in(folder)):
        return "the Python that it was made from is gone"
    if made["folder"] != wanted["folder"]:
        return "it was moved here from elsewhere"
    if made["python"] != wanted["python"]:
        return "it was made from Python {}, and this is {}".format(made["python"], wanted["python"])
    return None


@contextlib.contextmanager
def alone(folder):
    """One installation at a time. The system frees the lock when its last holder ends, even a killed one."""
    try:
        lock = io.open(folder + ".lock", "ab")  # noqa: SIM115
    except OSError:
        stop(NOT_YOURS.format(folder=folder))
    with lock:
        told = False
        while not locked(lock):
            if not told:
                say("Another call is installing in {}; waiting for it.".format(folder))
            told = True
            time.sleep(1)
        yield lock


def locked(file):
    try:
        if WINDOWS:
            import msvcrt

            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except (BlockingIOError, PermissionError):
        return False


def remove(folder):
    try:
        if os.path.isdir(folder):
            shutil.rmtree(folder)
    except OSError as error:
        stop(NOT_REMOVED.format(folder=folder, error=error.strerror))


def make_anew(folder, index):
    remove(folder)
    large = sys.platform == "linux" and not (index or "").rstrip("/").endswith("/cpu")
    needed, free = 7 if large else 2, shutil.disk_usage(ROOT).free / 1e9
    if free < needed:
        stop(NO_SPACE.format(needed=needed, free=free, folder=ROOT))
    # Not sys.executable: that may be the Python inside the environment that was just removed.
    base = getattr(sys, "_base_executable", None) or sys.executable
    if subprocess.call([base, "-m", "venv", folder]):
        stop(NO_VENV)


def has_nvidia_driver():
    """Whether this Linux has one; in a container and under WSL one of the two shows it."""
    return os.path.exists("/proc/driver/nvidia/version") or bool(shutil.which("nvidia-smi"))


def torch_index(noted=None):
    """The address of the index that torch comes from; None is PyPI, whose torch for Linux is the large one, for GPUs.

    noted: the index of an environment that is kept. COURSE_TORCH goes before it.
    """
    build = os.environ.get("COURSE_TORCH") or noted
    build = build or ("cpu" if sys.platform == "linux" and not has_nvidia_driver() else "pypi")
    if build == "pypi":
        return None
    index = build if "://" in build else "https://download.pytorch.org/whl/" + build
    if answers(index):
        return index
    say(NOT_REACHED.format(index=index))
    return None


def answers(index, seconds=8):
    """Whether an index shows wheels of torch in time. In a thread: looking up a name knows no limit of time."""
    from urllib.request import urlopen

    found = []

    def look():
        # The page is long; its beginning says enough, and on a slow line the rest takes longer than there is time.
        with contextlib.suppress(Exception), urlopen(index.rstrip("/") + "/torch/", timeout=seconds) as page:
            found.append(b"torch-" in page.read(1 << 16))

    thread = threading.Thread(target=look)
    thread.daemon = True
    thread.start()
    thread.join(seconds)
    return found == [True]


def pip_install(python, *what):
    return [python, "-m", "pip", "--disable-pip-version-check", "install"] + list(what)


def torch_alone(python, pins, index):
    """The command that takes torch and torchvision from an index, and nothing else.

    An index named beside PyPI would be asked for every package, and one that is silent costs 99 seconds for each.
    """
    build = re.search(r"/(cpu|cu\d+|rocm[\d.]+|xpu)$", index.rstrip("/"))
    # "2.14.1+cpu", so that a second index in pip's configuration cannot give another build. On macOS none is named so.
    build = "+" + build.group(1) if build and sys.platform != "darwin" else ""
    torch = re.findall(r"^(torch(?:vision)?==[\w.]+)(.*)", pins, re.M)
    wanted = [pin + build + marker.partition("#")[0].rstrip() for pin, marker in torch]
    return pip_install(python, "--no-deps", "--index-url", index, *wanted)


def install(folder, pins, lock, index, noted=None):
    """Bring an environment to what pyproject.toml and the pins say. Cut short, it is left without a stamp.

    index: where torch comes from now. noted: what the stamp says of that; it stays, also if that does not answer today.
    """
    stamp, constraints = os.path.join(folder, STAMP), os.path.join(folder, "constraints.txt")
    write(constraints, pins)
    kept = os.path.exists(stamp)
    if kept:
        os.replace(stamp, stamp + ".old")
    # pip holds the lock too: if this process is killed and pip lives on, the next call waits for it.
    held = () if WINDOWS else (lock.fileno(),)
    variables = dict(os.environ, PIP_USER="0")  # a "user" install is refused inside an environment
    python, options = python_in(folder), {"cwd": ROOT, "env": variables, "pass_fds": held}
    if index and subprocess.call(torch_alone(python, pins, index), **options):
        say(NOT_REACHED.format(index=index))
        index = None
    if subprocess.call(pip_install(python, "-c", constraints, "-e", ".[test]"), **options):
        if kept:
            # pip downloads before it changes anything, so what was there still works.
            os.replace(stamp + ".old", stamp)
        stop(NOT_INSTALLED)
    write(stamp + ".new", json.dumps(dict(wanted_stamp(folder, pins), torch=index or noted or "pypi")))
    os.replace(stamp + ".new", stamp)


def environment(name, pins):
    """The Python of an environment with all that the course needs; where one is ready, this takes no time."""
    folder = os.path.realpath(os.path.join(ROOT, name))
    wanted = wanted_stamp(folder, pins)
    if not ready(read_stamp(folder), wanted) or not os.path.exists(python_in(folder)):
        with alone(folder) as lock:
            made = read_stamp(folder)  # read again: whoever held the lock may have done the work
            reason = why_anew(folder, made, wanted)
            if reason or not ready(made, wanted):
                # An environment that is kept keeps its build of torch. Before builds were noted, it was PyPI's.
                noted = None if reason or os.environ.get("COURSE_TORCH") else made.get("torch", "pypi")
                index = torch_index(noted)
                if reason:
                    say("Making {} ({}). The first time takes some minutes.".format(folder, reason))
                    make_anew(folder, index)
                say("Installing what pyproject.toml asks for.")
                install(folder, pins, lock, index, noted)
    return python_in(folder)


def ready(made, wanted):
    """Whether a stamp says all that is wanted. Which build of torch it names besides is the reader's choice."""
    return dict(made, torch="") == dict(wanted, torch="")


def in_conda():
    """Whether this Python is a conda environment's, and the course was installed into it from this folder."""
    from importlib.metadata import distributions
    from urllib.request import url2pathname

    if not os.path.isdir(os.path.join(sys.prefix, "conda-meta")):
        return False
    # pip notes from where it installed. What lies in this folder, first on the path, says nothing of that.
    found = distributions(name="finetune-course", path=[path for path in sys.path if os.path.realpath(path) != ROOT])
    urls = [json.loads(course.read_text("direct_url.json") or "{}").get("url", "") for course in found]
    return any(os.path.realpath(url2pathname(url[len("file://") :])) == ROOT for url in urls)


def course_python():
    own = os.environ.get("COURSE_PYTHON") or (sys.executable if in_conda() else None)
    return os.path.abspath(own) if own else environment(".venv", read("constraints.txt"))


def start(command):
    """Run a command in the course's folder until it ends, and return its exit code."""
    # The environment's folder first, so that a notebook which starts "tensorboard" finds this environment's.
    path = os.path.dirname(command[0]) + os.pathsep + os.environ.get("PATH", "")
    child = subprocess.Popen(command, cwd=ROOT, env=dict(os.environ, PATH=path))
    signal.signal(signal.SIGTERM, lambda *_: child.terminate())
    while True:
        try:
            return child.wait()
        except KeyboardInterrupt:
            pass  # the child got it too, and answers it in its own way: JupyterLab asks whether to stop


def copy_to(folder):
    """Copy what a student opens into a folder of the student's own. A file that is there already is left alone."""
    added = left = 0
    # The notebooks find the package and the stored results wherever they lie; these they find beside themselves.
    parts = [("notebooks", "*.ipynb"), ("images", "*.png"), ("images", "*", "*.png")]
    for part in parts + [("benchmarks", "*.md"), ("docs", "*.md"), ("README*.md",)]:
        for source in glob.glob(os.path.join(glob.escape(ROOT), *part)):
            target = os.path.join(folder, os.path.relpath(source, ROOT))
            if os.path.lexists(target):
                left += 1
                continue
            os.makedirs(os.path.dirname(target), exist_ok=True)
            shutil.copyfile(source, target + ".unfinished")  # cut short, it is no notebook that would be left alone
            os.rename(target + ".unfinished", target)
            added += 1
    say("{}: {} files added, {} that were there left alone.".format(folder, added, left))


def lab(args):
    options = argparse.ArgumentParser("start.py lab", add_help=False, allow_abbrev=False)
    options.add_argument("--copy", metavar="DIR")
    options, args = options.parse_known_args(args)
    try:
        if options.copy is not None:
            copy_to(options.copy)
    except OSError as error:
        stop(NOT_COPIED.format(folder=options.copy, error=error.strerror))
    # The folder above the notebooks is the server's root; else their pictures (../images) would lie outside it.
    # The notebook as default address, not as argument, stands in the printed address too.
    root = "." if options.copy is None else os.path.abspath(options.copy)
    command = [course_python(), "-m", "jupyterlab", "--ServerApp.root_dir=" + root]
    command.append("--LabApp.default_url=/lab/tree/notebooks/00_start_here.ipynb")
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        command.append("--allow-root")  # root in a container; Jupyter wants to be told
    return start(command + args)


def run(args):
    return start([course_python()] + args)


def test(args):
    return run(["-m", "pytest"] + args)


def test_oldest(args):
    return start([environment(".venv-oldest", floors()), "-m", "pytest"] + args)


def needs():
    """What pyproject.toml asks for, for the course and its tests: "torch>=2.6" and so on."""
    import tomllib

    project = tomllib.loads(read("pyproject.toml"))["project"]
    groups, found = project["optional-dependencies"], list(project["dependencies"])
    for need in groups["test"]:
        others = re.fullmatch(re.escape(project["name"]) + r"\[([\w,]+)\]", need)  # other groups, by their names
        found += sum((groups[name] for name in others.group(1).split(",")), []) if others else [need]
    return found


def floors():
    """Every "name>=version" of pyproject.toml as "name==version", one a line."""
    return "".join(need.replace(">=", "==", 1) + "\n" for need in needs())


def notebooks(args):
    """Run notebooks again, top to bottom, and save them without what differs from one machine to the next."""
    paths = [path for arg in args or [os.path.join(ROOT, "notebooks", "*.ipynb")] for path in glob.glob(arg)]
    convert = ["-m", "nbconvert", "--to", "notebook", "--execute", "--inplace"]
    options = ["--ExecutePreprocessor.record_timing=False", "--ExecutePreprocessor.kernel_name=python3"]
    for path in sorted(os.path.abspath(path) for path in paths):
        code = run(convert + options + [path])
        if code:
            return code
        notebook = json.loads(read(path))
        notebook["metadata"].get("language_info", {}).pop("version", None)
        write(path, json.dumps(notebook, indent=1, sort_keys=True, ensure_ascii=False) + "\n")
    return 0


def lock(args):
    """Ask pip what it would install today without constraints, and write that down. Nothing is installed.

    args: for pip, where it decides for the oldest Python; "-c FILE" for instance, with what is to stay as it is.
    """
    # For the oldest Python of all, a 3.11.0: there are packages that take 3.11.7 and refuse the 3.11.2 of Debian 12.
    oldest, above = python_limits()
    oldest, newest = "3.{}.0".format(oldest), "3.{}".format(above - 1)
    alone = ["--no-deps", "--ignore-requires-python"]  # pip would compare with the Python that it runs on
    with tempfile.TemporaryDirectory() as folder:
        subprocess.check_call([sys.executable, "-m", "venv", folder])
        lines = []
        for name, version in sorted(would_install(folder, oldest, args + needs()), key=lambda pin: pin[0].lower()):
            # torch names its CUDA libraries itself, others for each build; "+cu130" names a build, not a version.
            if re.match("nvidia-|cuda-|triton", name):
                continue
            pin = "{}=={}".format(name, version.split("+")[0])
            if would_install(folder, newest + ".0", alone + [pin]):
                lines.append(pin)
                continue
            # Not made for the newest Python: there it is the newest version of all.
            [(name, newer)] = would_install(folder, newest + ".0", alone + [name])
            lines.append('{}; python_version < "{}"'.format(pin, newest))
            lines.append('{}=={}; python_version >= "{}"'.format(name, newer.split("+")[0], newest))
    if not lines:
        return 1  # pip has said why
    header = "# The versions that start.py installs and the tests ran on. Made by `start.py lock` on {},\n"
    header += "# {}, for Python {} and newer. What your system does not need is not installed for standing here.\n"
    header += (
        '# A line with python_version >= "{}" was not run: it is the newest version that there is for that Python.\n'
    )
    header = header.format(datetime.date.today(), platform.system(), oldest, newest)
    write(os.path.join(ROOT, "constraints.txt"), header + "\n".join(lines) + "\n")
    say("constraints.txt is written. Now run the tests on it: start.py test")
    return 0


def would_install(folder, version, what):
    """[(name, version)] of what pip in an environment would install for a Python of that version; [] if it cannot."""
    report = os.path.join(folder, "report.json")
    ask = [python_in(folder), "-m", "pip", "install", "--quiet", "--dry-run", "--report", report]
    ask += ["--python-version", version, "--only-binary", ":all:", "--target", folder]
    if subprocess.call(ask + what):
        return []
    metadata = [item["metadata"] for item in json.loads(read(report))["install"]]
    return [(package["name"], package["version"]) for package in metadata]


def clean(args):
    for name in (".venv", ".venv-oldest"):
        remove(os.path.realpath(os.path.join(ROOT, name)))
    return 0


COMMANDS = {"lab": lab, "test": test, "test-oldest": test_oldest, "notebooks": notebooks, "run": run}
COMMANDS.update({"lock": lock, "clean": clean})


def main(argv):
    command = COMMANDS.get(argv[0]) if argv else None
    if command is None:
        say(__doc__)
        return 0 if argv[:1] in (["help"], ["--help"], ["-h"]) else 2
    bits = 64 if sys.maxsize > 2**32 else 32
    fault = complaint(sys.version_info, bits)
    try:
        if fault:
            other = fitting_python()
            if other is None:
                stop(fault)
            say(OTHER_PYTHON.format(found=called(sys.version_info, bits), version=other))
            return start([other, os.path.join(ROOT, "start.py")] + argv)
        return command(argv[1:])
    except KeyboardInterrupt:
        stop("Stopped. Call it again to go on.")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
