// What a person sees of a page's words. Those that nobody can see are left out; a word counts as hard to read when it is
// small, when it does not stand out from what is behind it, when it is cut off, or when it lies on another.
(() => {
  const shown = [];
  const luminance = (rgb) => {
    const [r, g, b] = rgb.map((v) => { v /= 255; return v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const colour = (text) => {
    const found = /rgba?\(([^)]+)\)/.exec(text || "");
    if (!found) return null;
    const parts = found[1].split(/[ ,\/]+/).map(Number);
    return { rgb: parts.slice(0, 3), alpha: parts.length > 3 ? parts[3] : 1 };
  };
  const over = (top, under) => top.rgb.map((v, i) => v * top.alpha + under[i] * (1 - top.alpha));
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const node = walker.currentNode, at = node.parentElement;
    if (!node.data.trim() || !at || at.closest("style, script, title, noscript, desc")) continue;
    const range = document.createRange();
    range.selectNodeContents(node);
    const style = getComputedStyle(at), svg = at.closest("svg");
    for (const box of range.getClientRects()) {
      if (box.width < 1 || box.height < 1 || style.visibility !== "visible" || style.opacity === "0") continue;
      shown.push({ node, at, box, style, svg, text: node.data.trim().slice(0, 60) });
    }
  }
  const trouble = [];
  const say = (what, one, more) => trouble.push(`${what}: ${one.text}${more ? ` (${more})` : ""}`);
  for (const one of shown) {
    const { at, box, style, svg } = one;
    const scale = svg ? svg.getBoundingClientRect().width / (svg.viewBox.baseVal?.width || svg.getBoundingClientRect().width) : 1;
    if (parseFloat(style.fontSize) * scale < 10) say("small", one, `${(parseFloat(style.fontSize) * scale).toFixed(1)} px`);
    const frame = svg ? svg.getBoundingClientRect() : { left: 0, right: document.documentElement.scrollWidth };
    if (box.left < frame.left - 1 || box.right > frame.right + 1) say("cut off", one);
    let behind = luminance([255, 255, 255]);
    const stack = document.elementsFromPoint(box.left + box.width / 2, box.top + box.height / 2);
    const layers = [];
    for (const element of stack) {
      if (element === at || at.contains(element)) {
        if (!svg) { const own = colour(getComputedStyle(element).backgroundColor); if (own && own.alpha) layers.push(own); }
        continue;
      }
      const its = getComputedStyle(element);
      const isShape = element instanceof SVGGeometryElement;
      const paint = colour(isShape ? its.fill : its.backgroundColor);
      if (paint) layers.push({ rgb: paint.rgb, alpha: paint.alpha * parseFloat(its.opacity || 1) });
    }
    let under = colour(getComputedStyle(document.body).backgroundColor)?.rgb || [255, 255, 255];
    for (const layer of layers.reverse()) under = over(layer, under);
    behind = luminance(under);
    const ink = colour(svg ? style.fill : style.color);
    if (!ink) continue;
    const front = luminance(over(ink, under));
    const ratio = (Math.max(front, behind) + 0.05) / (Math.min(front, behind) + 0.05);
    if (ratio < 4.5) say("pale", one, ratio.toFixed(1));
  }
  for (let i = 0; i < shown.length; i++) for (let j = i + 1; j < shown.length; j++) {
    const a = shown[i], b = shown[j];
    if (a.node === b.node) continue;
    const across = Math.min(a.box.right, b.box.right) - Math.max(a.box.left, b.box.left);
    const down = Math.min(a.box.bottom, b.box.bottom) - Math.max(a.box.top, b.box.top);
    // Boxes of lines are higher than their letters.
    if (across > 1.5 && down > 0.35 * Math.min(a.box.height, b.box.height)) say("on each other", a, b.text);
  }
  return { words: shown.length, trouble };
})()
