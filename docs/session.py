"""Plays docs/analysts-hour.md on a real terminal and takes its pictures: ``make session``.

The page is the script. Its ``sh`` blocks are typed into a shell inside tmux, its ``sql`` blocks at the prompt of
``ratemill sql`` (``⇥`` is the Tab key), one after the other, as a reader would. An image behind a block is the terminal
after it, or the file that the block has opened (``xdg-open``): a page, a PDF, an e-mail. A command ends with exit code
0, or with what its comment ``# exits 3: …`` says; anything else stops the session.

``python docs/session.py --play FOLDER`` only plays, without pictures.
"""  # noqa: INP001 - a script, not part of a package

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.terminal_theme import TerminalTheme
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "analysts-hour.md"
COLUMNS, LINES = 104, 40
MOST_LINES = 72
"""Of a picture; of a longer output it shows the beginning."""
PATIENCE_SECONDS = 240
PROMPT = "sql> "
TAB = "⇥"
PIXELS_PER_LINE = 18
PAGE_WIDTH = 1120
COLOURS_OF_A_PICTURE = {"screen": 64, "page": 64}

_PART = re.compile(
    r"^```(?P<language>sh|sql)\n(?P<text>.*?)^```$|^!\[[^\]]*\]\((?P<image>images/[^)]+)\)$", re.DOTALL | re.MULTILINE
)
_ANSWERED = re.compile(rf"^(?:\([\d,]+ rows?\b.*|error: .*)\n+{PROMPT.strip()}$", re.MULTILINE | re.DOTALL)
_QUERY = re.compile(rf"^(?:\x1b\[[\d;]*m)*{PROMPT}(?=[^\n]*\w)", re.MULTILINE)
_HEREDOC = re.compile(r"<<'(\w+)'$")
_EXITS = re.compile(r"\s+# exits (\d+)\b.*$")
_OPENS = re.compile(r"^xdg-open (.+)$")
_THEME = TerminalTheme(
    (24, 28, 34),
    (216, 221, 227),
    [(24, 28, 34), (240, 113, 120), (141, 207, 138), (236, 196, 104), (110, 170, 240), (200, 150, 230),
     (104, 205, 205), (216, 221, 227)],
    [(125, 135, 148), (255, 138, 144), (165, 224, 160), (250, 215, 130), (140, 190, 250), (220, 175, 245),
     (135, 225, 225), (255, 255, 255)],
)  # fmt: skip
_FRAME = """<!DOCTYPE html><meta charset="utf-8"><style>
body {{ margin: 0; padding: 14px 18px; background: {background}; color: {foreground}; }}
pre {{ margin: 0; font: 14px/{line}px "DejaVu Sans Mono", "Liberation Mono", monospace; }}
span {{ padding-bottom: 2px; }} /* so that an underscore lies on its own background */
{stylesheet}
</style><pre>{code}</pre>"""


@dataclass(frozen=True)
class Block:
    """What is typed in one go, and the pictures taken after it."""

    language: str
    text: str
    images: list[str] = field(default_factory=list)

    @property
    def commands(self) -> list[str]:
        """Command lines, each with its here-document."""
        commands: list[str] = []
        ends_with = None
        for line in self.text.splitlines():
            if ends_with is not None or (commands and commands[-1].endswith("\\")):
                commands[-1] += f"\n{line}"
                ends_with = None if line == ends_with else ends_with
            elif line.strip():
                commands.append(line)
                heredoc = _HEREDOC.search(line)
                ends_with = heredoc[1] if heredoc else None
        return commands

    @property
    def opened(self) -> str | None:
        """The file that the block has opened last."""
        found = [match[1] for command in self.commands if (match := _OPENS.match(command))]
        return found[-1] if self.language == "sh" and found else None


def blocks(page: str) -> list[Block]:
    """The blocks of a page, in order."""
    found: list[Block] = []
    for part in _PART.finditer(page):
        if part["image"]:
            found[-1].images.append(part["image"])
        else:
            found.append(Block(part["language"], part["text"]))
    return found


class Terminal:
    """A shell in tmux."""

    def __init__(self, folder: Path) -> None:
        self._codes = folder / ".codes"
        self._codes.touch()
        self._socket = folder / ".tmux"
        tools = folder / ".bin"
        tools.mkdir()
        for name, does in (
            ("ratemill", f'exec "{sys.executable}" -m ratemill "$@"'),
            ("python", f'exec "{sys.executable}" "$@"'),
            ("xdg-open", 'test -f "$1"'),  # the picture is taken of the file itself
        ):
            (tools / name).write_text(f"#!/bin/sh\n{does}\n", encoding="utf-8")
            (tools / name).chmod(0o755)
        (folder / ".bashrc").write_text(
            f"PS1='$ '; PROMPT_COMMAND='echo $? >> {self._codes}'; HISTFILE=; set +m\n"
            f"export PATH={tools}:$PATH PAGER=cat TZ=UTC LANG=C.UTF-8\n",
            encoding="utf-8",
        )
        self._tmux(
            "new-session", "-d", "-x", str(COLUMNS), "-y", str(LINES), "-s", "hour", "-c", str(folder),
            "bash", "--noprofile", "--rcfile", str(folder / ".bashrc"), "-i",
        )  # fmt: skip
        self._tmux("set-option", "-g", "status", "off")
        self._wait_for_codes(1)

    def close(self) -> None:
        """End the shell and what it started."""
        self._tmux("kill-server")

    def clear(self) -> None:
        """An empty screen, and nothing to scroll back to."""
        self._tmux("send-keys", "-t", "hour", "C-l")
        time.sleep(0.3)
        self._tmux("clear-history", "-t", "hour")

    def command(self, text: str) -> int:
        """Type a command line, and wait for its exit code, or for a prompt of its own."""
        before = len(self._all_codes())
        for line in text.splitlines():
            self._type(f"{line}\n")
        if re.fullmatch(r"ratemill sql", text):
            self._wait_until(lambda: self.shown().rstrip("\n").endswith(PROMPT.strip()), "the prompt")
            return 0
        self._wait_for_codes(before + 1)
        return self._all_codes()[before]

    def query(self, text: str) -> None:
        """Type a query at the prompt; without a semicolon at its end it is left there."""
        for number, line in enumerate(text.splitlines()):
            self._type("\n" if number else "")
            for part in re.split(f"({TAB})", line):
                if part == TAB:
                    self._tmux("send-keys", "-t", "hour", "Tab")
                    time.sleep(1.5)
                else:
                    self._type(part)
        if text.rstrip().endswith(";") or text.startswith("."):
            self._type("\n")
            if text.startswith(".quit"):
                self._wait_until(lambda: self.shown().rstrip("\n").endswith("$"), "the shell")
            else:
                self._wait_until(lambda: _ANSWERED.search(self.shown()) is not None, "an answer")
                if "\nerror: " in self.shown():
                    raise SystemExit(f"{text}\nwas refused:\n{self.shown()}")

    def give_up_line(self) -> None:
        """Ctrl-C."""
        self._tmux("send-keys", "-t", "hour", "C-c")
        time.sleep(0.5)

    def shown(self, *, colours: bool = False) -> str:
        """The screen, and what has scrolled away since it was empty."""
        return self._tmux("capture-pane", "-p", *(["-e"] if colours else []), "-S", "-", "-t", "hour").rstrip("\n")

    def _type(self, text: str) -> None:
        if text:
            text = f"{text[:-1]}\\;" if text.endswith(";") else text  # which tmux would take for its own
            self._tmux("send-keys", "-t", "hour", "-l", text)

    def _all_codes(self) -> list[int]:
        return [int(line) for line in self._codes.read_text(encoding="utf-8").split()]

    def _wait_for_codes(self, count: int) -> None:
        self._wait_until(lambda: len(self._all_codes()) >= count, "the end of a command")

    def _wait_until(self, holds: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not holds():
            if time.monotonic() > deadline:
                raise SystemExit(f"{what} did not come; the terminal shows:\n{self.shown()}")
            time.sleep(0.1)

    def _tmux(self, *words: str) -> str:
        done = subprocess.run(  # noqa: S603 - our own words
            ["tmux", "-S", str(self._socket), "-f", "/dev/null", *words],  # noqa: S607 - whichever tmux is installed
            capture_output=True, text=True, check=True, env={**os.environ, "TERM": "xterm-256color"},
        )  # fmt: skip
        return done.stdout


@contextmanager
def terminal(folder: Path) -> Iterator[Terminal]:
    """A shell in ``folder``, ended with the block."""
    started = Terminal(folder)
    try:
        yield started
    finally:
        started.close()


def play(page: str, folder: Path, camera: Camera | None = None) -> list[str]:
    """Play the page in ``folder``; the screen after each block.

    Raises:
        SystemExit: a command ended otherwise than the page says.
    """
    screens = []
    with terminal(folder) as shell:
        for block in blocks(page):
            if block.language == "sh" or not block.text.startswith("."):
                shell.clear()
            if block.language == "sql":
                shell.query(block.text.rstrip("\n"))
            for command in block.commands if block.language == "sh" else ():
                exits = _EXITS.search(command.splitlines()[0])
                expected, code = int(exits[1]) if exits else 0, shell.command(command)
                if code != expected:
                    raise SystemExit(f"{command}\nended with {code}, not {expected}:\n{shell.shown()}")
            screens.append(shell.shown())
            for image in block.images if camera is not None else ():
                camera.take(image, shell, block, folder)
            if block.language == "sql" and TAB in block.text[-2:]:
                shell.give_up_line()
    return screens


class Camera:
    """Takes pictures with a browser, and makes them small."""

    def __init__(self, into: Path) -> None:
        self._into = into
        self._browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
        missing = [name for name in ("pngquant", "pdftoppm") if shutil.which(name) is None]
        missing += [] if self._browser else ["chromium"]
        if missing:
            raise SystemExit(
                f"pictures need {', '.join(missing)} → Debian: apt install chromium pngquant poppler-utils"
            )

    def take(self, image: str, shell: Terminal, block: Block, folder: Path) -> None:
        """The picture that the page wants: of the file that the block opened, else of the screen."""
        target = self._into / image
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory() as made:
            picture = Path(made) / "picture.png"
            if block.opened is None:
                self._screen(_since_asked(shell.shown(colours=True)), Path(made), picture)
            else:
                (opened,) = (folder / "hour").glob(block.opened)
                self._file(opened, Path(made), picture)
            colours = COLOURS_OF_A_PICTURE["screen" if block.opened is None else "page"]
            _run("pngquant", "--force", "--speed", "1", "--output", str(target), str(colours), str(picture))

    def _screen(self, text: str, made: Path, picture: Path) -> None:
        console = Console(record=True, width=COLUMNS, file=open(os.devnull, "w"), highlight=False)  # noqa: PTH123, SIM115
        lines = text.split("\n")[:MOST_LINES]
        console.print(Text.from_ansi("\n".join(lines)), no_wrap=True, crop=False)  # colours go on from line to line
        html = made / "screen.html"
        html.write_text(
            console.export_html(theme=_THEME, code_format=_FRAME.replace("{line}", str(PIXELS_PER_LINE))),
            encoding="utf-8",
        )
        self._shoot(html, picture, width=COLUMNS * 8 + 74, height=PIXELS_PER_LINE * len(lines) + 30)

    def _file(self, opened: Path, made: Path, picture: Path) -> None:
        if opened.suffix == ".pdf":
            _run("pdftoppm", "-png", "-r", "80", "-singlefile", str(opened), str(picture.with_suffix("")))
            return
        if opened.suffix != ".html":
            mail = message_from_bytes(opened.read_bytes(), policy=policy.default)
            body = mail.get_body(("html",))
            if body is None:
                raise SystemExit(f"{opened} is neither a page nor a PDF nor an e-mail with a page")
            opened = made / "mail.html"
            opened.write_text(body.get_content(), encoding="utf-8")
            self._shoot(opened, picture, width=680, height=620)
            return
        self._shoot(opened, picture, width=PAGE_WIDTH, height=1000)

    def _shoot(self, html: Path, picture: Path, *, width: int, height: int) -> None:
        with tempfile.TemporaryDirectory() as profile:
            _run(
                str(self._browser), "--headless", "--disable-gpu", "--disable-background-networking",
                "--hide-scrollbars",
                *(["--no-sandbox"] if os.geteuid() == 0 else []), f"--user-data-dir={profile}",
                f"--window-size={width},{height}", f"--screenshot={picture}", html.as_uri(),
            )  # fmt: skip


def _since_asked(screen: str) -> str:
    """From the last query on, where it is a prompt: a query of several lines may be drawn more than once."""
    asked = [match.start() for match in _QUERY.finditer(screen)]
    return screen[asked[-1] :] if asked else screen


def _run(*words: str) -> None:
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=120)  # noqa: S603 - ours
    if done.returncode:
        raise SystemExit(f"{words[0]} failed: {done.stderr.strip()}")


def main(arguments: Sequence[str] | None = None) -> None:
    """Play, and take the pictures unless told otherwise."""
    options = argparse.ArgumentParser(description="Plays docs/analysts-hour.md and takes its pictures.")
    options.add_argument("--play", type=Path, metavar="FOLDER", help="only play, in this new folder")
    given = options.parse_args(arguments)
    page = PAGE.read_text(encoding="utf-8")
    if given.play is not None:
        given.play.mkdir()
        play(page, given.play)
        return
    folder = Path(tempfile.gettempdir()) / "ratemill-session"  # some pictures show where it is
    folder.mkdir()
    try:
        play(page, folder, Camera(folder / "pictures"))
        pictures = PAGE.parent / "images" / "session"
        shutil.rmtree(pictures, ignore_errors=True)
        shutil.copytree(folder / "pictures" / "images" / "session", pictures)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
