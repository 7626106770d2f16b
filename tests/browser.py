"""A real browser without a screen, driven over pipes in its own protocol: what a page shows, asks for and says."""

from __future__ import annotations

import base64
import json
import os
import queue
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import urlsplit

from tests.tools import unpacked

SCREENSHOTS = Path(__file__).parents[1] / ".cache" / "test" / "screenshots"
NAMES = ("chromium", "chromium-headless-shell", "google-chrome", "chromium-browser")
OPTIONS = (
    "--headless",
    "--no-sandbox",  # the pages are our own, and root has no other way
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-extensions",
    "--disable-sync",
    "--no-first-run",
    "--hide-scrollbars",
    "--force-color-profile=srgb",
    "--lang=en-US",
    # Whatever a page names, nothing is looked up and nothing is asked but this machine.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    "--no-proxy-server",
    "--remote-debugging-pipe",
)
LOOK = Path(__file__).with_name("legible.js").read_text(encoding="utf-8")


class BrowserError(Exception):
    """The browser did not do what it was told."""


@dataclass
class Page:
    """One tab."""

    browser: Browser
    session: str
    asked: list[str] = field(default_factory=list)
    """Addresses of all that it asked for."""
    complaints: list[str] = field(default_factory=list)
    """Errors and warnings of its console, and what its scripts threw."""
    answered: dict[str, int] = field(default_factory=dict)
    login: tuple[str, str] = ("", "")

    def call(self, method: str, **told: Any) -> Any:
        """Ask the tab."""
        return self.browser.call(method, told, self.session)

    def open(self, url: str, user: str = "", password: str = "") -> None:
        """Load a page and wait until it has; somebody with a name and a password says them when asked."""
        self.login = (user, password)
        self.asked.clear()
        self.complaints.clear()
        self.answered.clear()
        told = self.call("Page.navigate", url=url)
        if told.get("errorText"):
            raise BrowserError(f"{url}: {told['errorText']}")
        self.until("document.readyState === 'complete' && location.href !== 'about:blank'")

    def run(self, script: str) -> Any:
        """What an expression is on the page."""
        told = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in told:
            raise BrowserError(str(told["exceptionDetails"].get("exception", {}).get("description", told)))
        return told["result"].get("value")

    def until(self, script: str, seconds: float = 90) -> Any:
        """Wait until an expression is true."""
        end = time.monotonic() + seconds
        while True:
            trouble = ""
            try:
                if found := self.run(script):
                    return found
            except BrowserError as error:  # between two pages there is none to ask
                trouble = str(error)
            if time.monotonic() > end or self.browser.process.poll() is not None:
                shown = trouble or str(self.run("document.body.innerText"))[:2000]
                raise BrowserError(f"not within {seconds:.0f} s: {script}\n{self.complaints}\n{shown}")
            time.sleep(0.05)

    def type(self, text: str) -> None:
        """Keys, to what has the focus."""
        self.call("Input.insertText", text=text)

    def press_enter(self) -> None:
        """The key."""
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key="Enter", code="Enter", text="\r",
                      windowsVirtualKeyCode=13)  # fmt: skip

    def size(self, width: int, height: int = 900, *, dark: bool = False) -> None:
        """The window, and whether its owner likes dark pages."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )
        wanted = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.call("Emulation.setEmulatedMedia", features=wanted)

    @property
    def text(self) -> str:
        """All words that are shown."""
        return str(self.run("document.body.innerText"))

    def trouble(self, name: str, width: int = 1280, *, dark: bool = False) -> list[str]:
        """What is hard to read on the whole page, of which a picture is kept."""
        self.size(width, dark=dark)
        height = int(self.run("Math.ceil(document.documentElement.scrollHeight)"))
        self.size(width, max(height, 600), dark=dark)
        self.screenshot(name)
        told = self.run(LOOK)
        if not told["words"]:
            raise BrowserError("the page shows no words")
        wide = int(self.run("document.documentElement.scrollWidth"))
        found = list(told["trouble"])
        return [*found, f"wider than the window: {wide}"] if wide > width else found

    def screenshot(self, name: str) -> Path:
        """Keep a picture of what the window shows."""
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        path = SCREENSHOTS / f"{name}.png"
        told = self.call("Page.captureScreenshot", format="png")
        path.write_bytes(base64.b64decode(told["data"]))
        return path

    @property
    def outside(self) -> list[str]:
        """What it asked of others than this machine."""
        own = ("127.0.0.1",)
        return [url for url in self.asked if urlsplit(url).scheme in ("http", "https", "ws", "wss", "ftp")
                and urlsplit(url).hostname not in own]  # fmt: skip

    def heard(self, method: str, told: Mapping[str, Any]) -> None:
        """Take in what the browser tells of the tab. Runs while something is asked."""
        if method == "Network.requestWillBeSent":
            self.asked.append(told["request"]["url"])
        elif method == "Network.responseReceived":
            self.answered[told["response"]["url"]] = int(told["response"]["status"])
        elif method == "Runtime.consoleAPICalled" and told["type"] in ("error", "assert"):
            words = (str(part.get("value", part.get("description", ""))) for part in told["args"])
            self.complaints.append(" ".join(words))
        elif method == "Runtime.exceptionThrown":
            details = told["exceptionDetails"]
            self.complaints.append(str(details.get("exception", {}).get("description", details["text"])))
        elif method == "Log.entryAdded" and told["entry"]["level"] == "error":
            self.complaints.append(f"{told['entry']['text']} {told['entry'].get('url', '')}".strip())
        elif method == "Fetch.requestPaused":
            self.browser.tell("Fetch.continueRequest", {"requestId": told["requestId"]}, self.session)
        elif method == "Fetch.authRequired":
            user, password = self.login
            answer = {"response": "CancelAuth"}
            if user:
                answer = {"response": "ProvideCredentials", "username": user, "password": password}
            more = {"requestId": told["requestId"], "authChallengeResponse": answer}
            self.browser.tell("Fetch.continueWithAuth", more, self.session)


class Browser:
    """A running browser. Messages go over two pipes, each ended by a zero byte."""

    def __init__(self, process: subprocess.Popen[bytes], out: BinaryIO, into: BinaryIO, log: Path) -> None:
        self.process = process
        self.out = out
        self.into = into
        self.log = log
        self.number = 0
        self.messages: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self.pages: dict[str, Page] = {}
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        rest = b""
        while piece := os.read(self.into.fileno(), 1 << 16):
            *whole, rest = (rest + piece).split(b"\0")
            for message in whole:
                self.messages.put(json.loads(message))
        self.messages.put(None)

    def tell(self, method: str, told: Mapping[str, Any], session: str = "") -> int:
        """Say something and wait for nothing."""
        self.number += 1
        message = {"id": self.number, "method": method, "params": told}
        if session:
            message["sessionId"] = session
        self.out.write(json.dumps(message).encode() + b"\0")
        self.out.flush()
        return self.number

    def call(self, method: str, told: Mapping[str, Any], session: str = "", seconds: float = 60) -> Any:
        """Say something and wait for the answer; what is told meanwhile goes to its page."""
        number = self.tell(method, told, session)
        end = time.monotonic() + seconds
        while True:
            try:
                message = self.messages.get(timeout=max(0.01, end - time.monotonic()))
            except queue.Empty:
                raise BrowserError(f"no answer to {method} within {seconds:.0f} s") from None
            if message is None:
                raise BrowserError(f"the browser ended:\n{self.log.read_text(errors='replace')[-2000:]}")
            if message.get("id") == number:
                if "error" in message:
                    raise BrowserError(f"{method}: {message['error']['message']}")
                return message["result"]
            page = self.pages.get(message.get("sessionId", ""))
            if page and "method" in message:
                page.heard(message["method"], message["params"])

    def page(self) -> Page:
        """A new tab. Any server's certificate is taken: the site's own authority is made for the test."""
        target = self.call("Target.createTarget", {"url": "about:blank"})["targetId"]
        session = self.call("Target.attachToTarget", {"targetId": target, "flatten": True})["sessionId"]
        page = self.pages[session] = Page(self, session)
        for domain in ("Page", "Runtime", "Log", "Network"):
            page.call(f"{domain}.enable")
        page.call("Security.setIgnoreCertificateErrors", ignore=True)
        page.call("Fetch.enable", handleAuthRequests=True)
        page.size(1280)
        return page


def program() -> tuple[str, dict[str, str]]:
    """A browser of this machine, or the distribution's, laid out in a folder; and what it wants in its environment."""
    own = next((found for name in NAMES if (found := shutil.which(name))), "")
    if own:
        return own, {}
    # What those two bring is for windows, which there are none of.
    wanted = ("chromium-headless-shell", "chromium-common", "fonts-dejavu-core")
    folder = unpacked(*wanted, without=("x11-utils", "xdg-utils"))
    [shell] = [path for path in folder.glob("usr/lib/chromium*/*headless*shell") if os.access(path, os.X_OK)]
    fonts = folder / "fonts.conf"
    places = f"<dir>/usr/share/fonts</dir><dir>{folder}/usr/share/fonts</dir>"
    fonts.write_text(
        f"<fontconfig>{places}<cachedir>{folder}/cache</cachedir>"
        "<alias><family>sans-serif</family><prefer><family>DejaVu Sans</family></prefer></alias>"
        "<alias><family>monospace</family><prefer><family>DejaVu Sans Mono</family></prefer></alias></fontconfig>"
    )
    libraries = sorted({str(path.parent) for path in folder.glob("**/lib*.so*")})
    return str(shell), {"LD_LIBRARY_PATH": ":".join(libraries), "FONTCONFIG_FILE": str(fonts)}


@contextmanager
def browsing(folder: Path) -> Iterator[Browser]:
    """A browser whose traces stay in a folder."""
    path, more = program()
    ours_in, theirs_out = os.pipe()
    theirs_in, ours_out = os.pipe()
    # The protocol's pipes are the descriptors 3 and 4.
    argv = ["bash", "-c", f'exec "$@" 3<&{theirs_in} 4>&{theirs_out}', "bash", path]
    argv += [*OPTIONS, f"--user-data-dir={folder / 'profile'}", "about:blank"]
    env = {**os.environ, **more, "HOME": str(folder), "TZ": "UTC"}
    log = folder / "browser.log"
    with log.open("wb") as stream, os.fdopen(ours_in, "rb") as into, os.fdopen(ours_out, "wb") as out:
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=stream,
            env=env,
            pass_fds=(theirs_in, theirs_out),
        )
        os.close(theirs_in)
        os.close(theirs_out)
        browser = Browser(process, out, into, log)
        try:
            yield browser
        finally:
            if process.poll() is None:
                browser.tell("Browser.close", {})
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
