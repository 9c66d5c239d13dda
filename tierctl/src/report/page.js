// The read-out under the pointer. The page is complete without it.
(() => {
  const holder = document.getElementById("tl-data");
  if (!holder) return;
  const data = JSON.parse(holder.textContent);
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  const bytes = n => {
    let unit = 0;
    while (n >= 1024 && unit < units.length - 1) { n /= 1024; unit++; }
    return (unit === 0 || n >= 100 ? Math.round(n) : n.toFixed(1)) + " " + units[unit];
  };
  const line = (label, value, colour) => {
    const row = document.createElement("div");
    if (colour) {
      const swatch = document.createElement("i");
      swatch.className = "swatch " + colour;
      row.append(swatch);
    }
    const strong = document.createElement("b");
    strong.textContent = value;
    row.append(label, strong);
    return row;
  };
  for (const plot of document.querySelectorAll(".plot")) {
    const box = plot.querySelector(".area-box"), cursor = box.querySelector(".cursor"), tip = box.querySelector(".tip");
    const values = data[plot.dataset.part];
    const hide = () => { cursor.hidden = tip.hidden = true; };
    box.addEventListener("pointerleave", hide);
    box.addEventListener("pointermove", event => {
      const frame = box.getBoundingClientRect();
      const wanted = (event.clientX - frame.left) / frame.width * data.span_ms;
      let best = 0;
      data.at_ms.forEach((at, i) => { if (Math.abs(at - wanted) < Math.abs(data.at_ms[best] - wanted)) best = i; });
      const x = data.at_ms[best] / data.span_ms * frame.width;
      const total = values[best].reduce((sum, n) => sum + n, 0);
      const when = document.createElement("div");
      when.className = "when";
      when.textContent = (data.at_ms[best] / 1000).toFixed(2) + " s";
      const rows = data.tiers.map((name, i) => line(name, bytes(values[best][i]), "t" + i)).reverse();
      tip.replaceChildren(when, ...rows, line("together", bytes(total)), line("resident set", bytes(data.rss[best])));
      cursor.hidden = tip.hidden = false;
      cursor.style.left = x + "px";
      const right = x > frame.width / 2;
      tip.style.left = right ? "auto" : x + 12 + "px";
      tip.style.right = right ? frame.width - x + 12 + "px" : "auto";
    });
  }
})();
