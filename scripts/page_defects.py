"""What no page of the dashboard may do, found by measuring it in the browser that shows it."""

from __future__ import annotations

from playwright.sync_api import Page

#: Words of programmers for nothing.
_NOTHING = {"None", "null", "undefined", "NaN"}
_MEASURED = r"""() => {
  const wrong = [];
  const named = one => (one.getAttribute('aria-label') || one.innerText || one.name || one.id
    || one.tagName).trim().replace(/\s+/g, ' ').slice(0, 50);
  const shown = one => one.checkVisibility({visibilityProperty: true})
    && !one.closest('.unseen, .skip, dialog:not([open])') && one.getClientRects().length > 0;
  const all = selector => [...document.querySelectorAll(selector)].filter(shown);

  if (document.documentElement.scrollWidth > window.innerWidth)
    wrong.push('wider than the window');

  const used = all('a[href], button, input:not([type=hidden]), select, textarea, summary');
  const boxes = used.map(one => [one, [...one.getClientRects()]]);
  for (let i = 0; i < boxes.length; i++) for (let j = i + 1; j < boxes.length; j++) {
    const [a, first] = boxes[i], [b, second] = boxes[j];
    if (a.contains(b) || b.contains(a)) continue;
    const meet = first.some(r => second.some(s =>
      Math.min(r.right, s.right) - Math.max(r.left, s.left) > 2
      && Math.min(r.bottom, s.bottom) - Math.max(r.top, s.top) > 2));
    if (meet) wrong.push(`overlapping: "${named(a)}" and "${named(b)}"`);
  }

  for (const one of all('.button, .choice, .badge, .tabs a, summary, .pages a, th, h1, h2, h3')) {
    const box = one.getBoundingClientRect();
    const walk = document.createTreeWalker(one, NodeFilter.SHOW_TEXT);
    while (walk.nextNode()) {
      const text = walk.currentNode;
      // What is for screen readers alone is cut off on purpose.
      if (!text.data.trim() || getComputedStyle(text.parentElement).clipPath !== 'none') continue;
      const range = document.createRange();
      range.selectNodeContents(text);
      const inside = range.getBoundingClientRect();
      if (inside.left < box.left - 1.5 || inside.right > box.right + 1.5
          || inside.top < box.top - 1.5 || inside.bottom > box.bottom + 1.5) {
        wrong.push(`clipped: "${named(one)}"`);
        break;
      }
    }
  }

  const pen = document.createElement('canvas').getContext('2d');
  // On a phone the browser opens a list of its own, with all the words.
  for (const one of window.innerWidth < 600 ? [] : all('select')) {
    const style = getComputedStyle(one);
    pen.font = style.font;
    const words = one.selectedOptions[0]?.text ?? '';
    const room = one.clientWidth - parseFloat(style.paddingLeft) - parseFloat(style.paddingRight);
    // The browser's own arrow takes some of it.
    if (pen.measureText(words).width > room - 14) wrong.push(`clipped choice: "${words}"`);
  }
  return wrong;
}"""


def defects(page: Page) -> list[str]:
    """Say what is wrong: too wide, overlapping, clipped, or a programmer's word for nothing."""
    found: list[str] = page.evaluate(_MEASURED)
    words = set(page.locator("body").inner_text().split())
    return sorted(set(found)) + [f"says {one}" for one in sorted(_NOTHING & words)]
