// Series over time: <div class="plot" data-plot='{{ values|tojson }}'></div> with
// {"times": [seconds], "series": [{"label": "", "values": [], "unit": "bytes|bytes_s|percent|"}],
//  "from_zero": true}. The words beside it say the same to who cannot see it.

const UNITS = ["B", "kB", "MB", "GB", "TB", "PB"];
const language = document.documentElement.lang;

function written(value, unit) {
  if (value === null || value === undefined) return "–";
  if (unit === "percent") return `${value.toLocaleString(language, { maximumFractionDigits: 1 })} %`;
  if (unit !== "bytes" && unit !== "bytes_s") {
    return value.toLocaleString(language, { maximumFractionDigits: 2 });
  }
  let step = 0;
  for (; value >= 1000 && step < UNITS.length - 1; step += 1) value /= 1000;
  const text = value.toLocaleString(language, { maximumFractionDigits: value < 10 ? 1 : 0 });
  return `${text} ${UNITS[step]}${unit === "bytes_s" ? "/s" : ""}`;
}

function token(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

function draw(place) {
  if (!window.uPlot) return;
  const data = JSON.parse(place.dataset.plot);
  place.drawn?.destroy();
  if (data.times.length < 2) return;
  const colours = [token("--accent"), token("--s-stored"), token("--claim"), token("--s-unreadable")];
  const unit = data.series[0].unit;
  const axis = { stroke: token("--soft"), grid: { stroke: token("--line"), width: 1 }, ticks: { show: false } };
  const options = {
    width: place.clientWidth,
    height: place.clientHeight || 200,
    scales: { y: { range: (_plot, low, high) => [data.from_zero === false ? low : 0, high || 1] } },
    axes: [axis, { ...axis, size: 72, values: (_plot, ticks) => ticks.map((one) => written(one, unit)) }],
    series: [
      {},
      ...data.series.map((one, number) => ({
        label: one.label,
        stroke: colours[number % colours.length],
        width: 1.5,
        fill: number ? undefined : token("--accent-tint"),
        value: (_plot, value) => written(value, one.unit),
      })),
    ],
  };
  place.drawn = new window.uPlot(options, [data.times, ...data.series.map((one) => one.values)], place);
}

function drawAll() {
  document.querySelectorAll(".plot[data-plot]").forEach(draw);
}

const resized = new ResizeObserver((entries) => {
  for (const { target } of entries) {
    target.drawn?.setSize({ width: target.clientWidth, height: target.clientHeight || 200 });
  }
});
drawAll();
document.querySelectorAll(".plot[data-plot]").forEach((place) => resized.observe(place));
document.addEventListener("theme", drawAll);
document.addEventListener("htmx:afterSettle", drawAll);
