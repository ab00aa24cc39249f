// Draws the plots in the colours of the page, again whenever these change: light, dark, paper.
(() => {
  "use strict";
  const root = document.documentElement;
  const figures = JSON.parse(document.getElementById("figures").textContent);
  const panels = [...document.querySelectorAll(".panel")];

  function painted(node, css) {
    if (Array.isArray(node)) return node.map((each) => painted(each, css));
    if (node === null || typeof node !== "object") return node;
    return Object.fromEntries(
      Object.entries(node).map(([name, value]) =>
        name.endsWith("color") && typeof value === "string" && value.startsWith("--")
          ? [name, css.getPropertyValue(value).trim()]
          : [name, painted(value, css)],
      ),
    );
  }

  function draw() {
    const css = getComputedStyle(root);
    for (const panel of panels) {
      const { data, layout } = painted(figures[panel.id], css);
      layout.width = panel.clientWidth;
      layout.height = panel.clientHeight;
      Plotly.react(panel, data, layout, { displayModeBar: false });
    }
  }

  draw();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  let width = root.clientWidth;
  let waiting = 0;
  addEventListener("resize", () => {
    if (root.clientWidth === width) return;
    width = root.clientWidth;
    clearTimeout(waiting);
    waiting = setTimeout(draw, 100);
  });

  // Paper is light, narrow, and cannot be unfolded.
  let folded = [];
  addEventListener("beforeprint", () => {
    folded = [...document.querySelectorAll("details:not([open])")];
    folded.forEach((each) => (each.open = true));
    root.dataset.paper = "";
    draw();
  });
  addEventListener("afterprint", () => {
    folded.forEach((each) => (each.open = false));
    delete root.dataset.paper;
    draw();
  });
})();
