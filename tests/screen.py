"""What a browser makes of a page on screens of two widths: the page in two frames, looked at from outside."""

import json
import re
from html import unescape

WIDTHS = 400, 1300

FRAMES = """<!doctype html><body style="margin:0">{frames}<pre id="seen"></pre><script>
function look(frame) {{
  const page = frame.contentDocument;
  const plots = [...page.querySelectorAll(".plot")].map((place) => {{
    const {{ left, right, top, bottom }} = place.getBoundingClientRect();
    const texts = [...place.querySelectorAll("text")].filter((text) => text.textContent.trim()).map((text) => {{
      const {{ left, right, top, bottom }} = text.getBoundingClientRect();
      return {{ words: text.textContent, left, right, top, bottom }};
    }});
    return {{ name: place.id, drawn: place.querySelectorAll(".main-svg").length, left, right, top, bottom, texts }};
  }});
  const broken = [...page.images].filter((image) => !image.naturalWidth).length;
  return {{ wide: page.documentElement.scrollWidth, width: page.documentElement.clientWidth, plots, broken }};
}}
const waits = [3000, 3000, 3000];  // on a busy machine figures come later
function report() {{
  const seen = [...document.querySelectorAll("iframe")].map(look);
  if (waits.length && seen.some((page) => page.plots.some((plot) => !plot.drawn))) {{
    setTimeout(report, waits.pop());
  }} else {{
    document.getElementById("seen").textContent = JSON.stringify(seen);
  }}
}}
addEventListener("load", () => setTimeout(report, 3000));
</script></body>"""


def frames_of(*pages, height=3000):
    """Write the frames of pages that lie in one folder beside the first of them; their path."""
    frame = '<iframe src="{}" style="width:{}px;height:{}px;border:0"></iframe>'
    frames = "".join(frame.format(page.name, width, height) for page in pages for width in WIDTHS)
    path = pages[0].with_name(f"{pages[0].stem}_frames.html")
    path.write_text(FRAMES.format(frames=frames))
    return path


def seen_in(document):
    """What the frames show: a dict for each page and width, in their order."""
    return json.loads(unescape(re.search(r'<pre id="seen">(.*?)</pre>', document, re.DOTALL).group(1)))


def faults_of(document):
    """What is wrong with the pages in the frames, in words."""
    seen = seen_in(document)
    widths = WIDTHS * (len(seen) // len(WIDTHS))
    return [f"at {width}: {fault}" for width, page in zip(widths, seen, strict=True) for fault in _faults(page)]


def _faults(page):
    """Sideways scrolling, pictures and figures that are missing, words that are cut or lie on others."""
    found = [f"scrolls sideways: {page['wide']} of {page['width']}"] if page["wide"] > page["width"] else []
    found += [f"{page['broken']} pictures are not shown"] if page["broken"] else []
    for plot in page["plots"]:
        name, texts = plot["name"], plot["texts"]
        found += [] if plot["drawn"] else [f"{name} is not drawn"]
        for text in texts:
            inside = plot["left"] - 1 <= text["left"] and text["right"] <= plot["right"] + 1
            if not (inside and plot["top"] - 1 <= text["top"] and text["bottom"] <= plot["bottom"] + 1):
                found.append(f"{name}: '{text['words']}' is cut")
        for place, one in enumerate(texts):
            found += [f"{name}: '{one['words']}' lies on '{two['words']}'" for two in texts[:place] if _meet(one, two)]
    return found


def _meet(one, two, slack=3):
    across = min(one["right"], two["right"]) - max(one["left"], two["left"])
    down = min(one["bottom"], two["bottom"]) - max(one["top"], two["top"])
    return across > slack and down > slack
