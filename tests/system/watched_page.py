"""A page in a browser, what it asked for and what the browser said; and a hand that drops and pastes files.

watched = watch(context, url)
watched.drop(png, "cells.png")
watched.wait("result")
"""

import base64
from dataclasses import dataclass, field
from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

if TYPE_CHECKING:
    from playwright import sync_api

# What may take longer where others work too, milliseconds.
PATIENCE = 30_000
# Drops files as a hand does: the browser's own events, on what lies below the pointer.
DROP = """(files) => {
  const data = new DataTransfer();
  for (const [name, type, content] of files) {
    const bytes = Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0));
    data.items.add(new File([bytes], name, { type }));
  }
  const target = document.querySelector("main");
  for (const kind of ["dragenter", "dragover", "drop"])
    target.dispatchEvent(new DragEvent(kind, { dataTransfer: data, bubbles: true, cancelable: true }));
}"""
PASTE = """([name, type, content]) => {
  const data = new DataTransfer();
  data.items.add(new File([Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0))], name, { type }));
  document.dispatchEvent(new ClipboardEvent("paste", { clipboardData: data, bubbles: true }));
}"""
# What is seen where the layers lie: each pixel of the image with the tint and the outline over it.
SEEN = """(scale) => {
  const image = document.getElementById("image");
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [scale * image.naturalWidth, scale * image.naturalHeight];
  const context = canvas.getContext("2d");
  context.imageSmoothingEnabled = false;
  for (const id of ["image", "tint", "outline"]) {
    const layer = document.getElementById(id);
    if (getComputedStyle(layer).display === "none" || layer.width === 0) continue;
    context.globalAlpha = Number(getComputedStyle(layer).opacity);
    context.drawImage(layer, 0, 0, canvas.width, canvas.height);
  }
  return canvas.toDataURL("image/png").split(",")[1];
}"""


@dataclass
class Watched:
    """A page, what it asked for and what the browser said."""

    page: "sync_api.Page"
    asked: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)

    def paste(self, content: bytes, name: str = "cells.png", kind: str = "image/png") -> None:
        self.page.evaluate(PASTE, [name, kind, base64.b64encode(content).decode()])

    def drop(self, content: bytes, name: str = "cells.png", kind: str = "image/png") -> None:
        self.page.evaluate(DROP, [[name, kind, base64.b64encode(content).decode()]])

    def text(self, id: str) -> str:
        return self.page.locator(f"#{id}").inner_text()

    def wait(self, id: str) -> None:
        """Until that part of the page is seen."""
        self.page.locator(f"#{id}").wait_for(state="visible", timeout=PATIENCE)

    def seen(self, scale: int = 1) -> NDArray[np.int64]:
        """(H, W, 3): the image with its layers, each of its pixels `scale` wide and high."""
        return pixels(self.page.evaluate(SEEN, scale)).astype(np.int64)


def pixels(png: str) -> NDArray[np.uint8]:
    """(H, W, 3) of a PNG in base64."""
    return np.asarray(Image.open(BytesIO(base64.b64decode(png))).convert("RGB"))


def watch(context: "sync_api.BrowserContext", url: str) -> Watched:
    """Open a page and note all that it does."""
    watched = Watched(context.new_page())
    watched.page.on("request", lambda request: watched.asked.append(request.url))
    watched.page.on("console", lambda message: watched.said.append(f"{message.type}: {message.text}"))
    watched.page.on("pageerror", lambda error: watched.said.append(str(error)))
    # From here on choosers are caught: one that is asked for only when a key is pressed comes too late at times.
    watched.page.on("filechooser", lambda chooser: None)
    watched.page.goto(url)
    return watched
