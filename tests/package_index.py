"""An index of packages on 127.0.0.1, of any temper, with stand-ins for the wheels of torch of a few hundred bytes."""

import contextlib
import http.server
import threading
import urllib.parse
import zipfile
from pathlib import Path

TEMPERS = ("good", "behind", "flat", "login", "missing", "refused", "silent", "dripping")


def wheel(folder: Path, name: str, version: str) -> None:
    """A wheel that holds nothing but its name and version."""
    folder.mkdir(parents=True, exist_ok=True)
    info = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as file:
        file.writestr(f"{name}/__init__.py", f"__version__ = {version!r}\n")
        file.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        file.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        file.writestr(f"{info}/RECORD", "")


@contextlib.contextmanager
def served(folder: Path):
    """Serve FOLDER/TEMPER/whl/cpu/PROJECT/*.whl as indexes: yields (address, the paths that were asked for).

    What an index does is in its first name: "silent" never answers, "dripping" sends a byte a second, "login" shows
    another page; the others show what a folder holds: each project's own, or, where it is "flat", that of all projects.
    """
    asked, stopped = [], threading.Event()

    class Index(http.server.BaseHTTPRequestHandler):
        def log_message(self, *args):
            pass

        def do_GET(self):
            path = urllib.parse.unquote(self.path)
            asked.append(path)
            temper, here = path.split("/")[1], folder / path.strip("/")
            if temper == "silent":
                stopped.wait(60)
            elif temper == "dripping":
                self.answer(200)
                while not stopped.wait(1):
                    self.wfile.write(b" ")
            elif temper == "login":
                self.answer(200, b"<html><form>Please log in to the campus network</form></html>")
            elif here.is_file():
                self.answer(200, here.read_bytes())
            elif here.is_dir():
                files = sorted(here.glob("*.whl"))
                links = [urllib.parse.quote("/" + file.relative_to(folder).as_posix()) for file in files]
                self.answer(200, "".join(f'<a href="{link}">{Path(link).name}</a>\n' for link in links).encode())
            else:
                self.answer(404)

        def answer(self, status, content=b""):
            self.send_response(status)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(content)

        def handle(self):
            with contextlib.suppress(OSError):  # whoever asked has gone
                super().handle()

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Index)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        stopped.set()
        server.shutdown()
        server.server_close()
