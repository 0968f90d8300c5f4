"""Pictures of pages in languages, themes and sizes, each held against what no page may do."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from playwright.sync_api import Browser, Page

from scripts.dashboard_demo import Dashboard, look
from scripts.page_defects import defects

#: Language, theme and width of the pictures that each page has.
VARIANTS = (
    ("en", "light", 1280),
    ("pt-BR", "dark", 1280),
    ("en", "dark", 360),
    ("pt-BR", "light", 360),
)
#: The window of most pictures in documents: narrow, so that they are small and can be read there.
_KEPT_SIZE = (1000, 640)
_HEIGHTS = {1280: 850, 360: 740}
#: What leads to a state of a page: its path, or what is done in a window.
Way = str | Callable[[Page], object]


@dataclass(frozen=True)
class Kept:
    """A picture in documents: its file's name, the page's name, its language, from where down."""

    file: str
    page: str
    language: str = "en"
    #: What is scrolled to the top; empty: the top of the page.
    from_: str = ""
    #: Width and height of the window.
    size: tuple[int, int] = _KEPT_SIZE


@dataclass
class Camera:
    """Takes pictures; `wrong` gathers what no page may do."""

    running: Browser
    folder: Path
    #: Pictures for documents, and their folder; none where only the others are wanted.
    kept: Sequence[Kept] = ()
    kept_folder: Path = Path()
    wanted: frozenset[str] = frozenset()
    wrong: list[str] = field(default_factory=list)
    names: list[str] = field(default_factory=list)

    def wants(self, name: str) -> bool:
        """Say whether somebody asked for a page's pictures."""
        return not self.wanted or name in self.wanted

    def keep(self, page: Page, target: Path) -> None:
        """Take a picture of a whole page as it stands, and hold it against what no page may do."""
        _settle(page)
        # A page that is taken in one piece is as long as itself, and has no bars that stick.
        page.screenshot(path=target, full_page=True)
        self.wrong += [f"{target.name}: {one}" for one in defects(page)]

    def snap(self, name: str, page: Page) -> None:
        """Take what a window shows and no way leads back to, wide and narrow."""
        self.names.append(name)
        if not self.wants(name):
            return
        for width, height in _HEIGHTS.items():
            page.set_viewport_size({"width": width, "height": height})
            self.keep(page, self.folder / f"{name}-en-light-{width}.png")
        page.set_viewport_size({"width": 1280, "height": _HEIGHTS[1280]})

    @contextmanager
    def at(self, board: Dashboard, *, may_see: bool = True) -> Iterator[Windows]:
        """Open a window for each variant; `may_see`: with the token of the API."""
        with ExitStack() as stack:

            def window(language: str, theme: str, width: int, height: int) -> Page:
                context = look(
                    self.running,
                    board,
                    language=language,
                    theme=theme,
                    width=width,
                    height=height,
                    may_see=may_see,
                )
                return stack.enter_context(context).new_page()

            pages = {
                f"{language}-{theme}-{width}": window(language, theme, width, _HEIGHTS[width])
                for language, theme, width in VARIANTS
            }
            for_documents = {
                language: window(language, "light", *_KEPT_SIZE)
                for language in {one.language for one in self.kept}
            }
            yield Windows(self, pages, for_documents)


@dataclass(frozen=True)
class Windows:
    """A window for each variant, all at one dashboard."""

    camera: Camera
    pages: Mapping[str, Page]
    for_documents: Mapping[str, Page]

    def take(self, name: str, way: Way) -> None:
        """Go a way in every window, and take a picture there."""
        camera = self.camera
        camera.names.append(name)
        if not camera.wants(name):
            return
        for variant, page in self.pages.items():
            _go(page, way)
            camera.keep(page, camera.folder / f"{name}-{variant}.png")
        for one in camera.kept:
            if one.page == name:
                page = self.for_documents[one.language]
                width, height = one.size
                page.set_viewport_size({"width": width, "height": height})
                _go(page, way)
                _settle(page)
                if one.from_:
                    page.locator(one.from_).first.evaluate(
                        # Below the bar that sticks to the top.
                        "one => scrollTo(0, one.getBoundingClientRect().top + scrollY - 64)"
                    )
                page.screenshot(path=camera.kept_folder / one.file)


def _go(page: Page, way: Way) -> None:
    if callable(way):
        way(page)
    else:
        page.goto(way)


def _settle(page: Page) -> None:
    """Wait until every picture on the page is there, and no field has the eye of the browser."""
    page.evaluate(
        """async () => {
          document.activeElement?.blur();
          for (const one of document.images) one.loading = 'eager';
          await Promise.all([...document.images].map(one => one.complete || new Promise(
            done => { one.onload = one.onerror = done; })));
        }"""
    )
