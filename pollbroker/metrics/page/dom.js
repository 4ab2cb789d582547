// Elements. Text is set as text only: what a broker is called can never become markup.

const find = (id) => document.getElementById(id);

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

const make = (tag, attributes = {}, ...children) => fill(document.createElement(tag), attributes, children);
const draw = (tag, attributes = {}, ...children) =>
  fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);

// What has not changed is left alone, so that a screen reader keeps its place and nothing is laid out anew.
function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function set(element, name, value) {
  if (element.getAttribute(name) !== String(value)) element.setAttribute(name, value);
}

function show(element, visible) {
  if (element.hidden === visible) element.hidden = !visible;
}

// The last minutes as a curve, with marks where something stalled or was dropped.
class Curve {
  constructor() {
    this.area = draw("path", { class: "area" });
    this.curve = draw("path", { class: "curve" });
    this.stalls = draw("path", { class: "stalls" });
    this.drops = draw("path", { class: "drops" });
    const floor = draw("path", { class: "floor", d: "M0 30H120" });
    const box = { class: "history", viewBox: "0 0 120 30", preserveAspectRatio: "none", role: "img" };
    this.element = draw("svg", box, floor, this.area, this.curve, this.stalls, this.drops);
  }

  update(points, what) {
    if (!points.length) return;
    const end = points.at(-1).at;
    const x = (point) => (HISTORY_S - (end - point.at)).toFixed(1);
    const most = points.reduce((all, one) => Math.max(all, one.rate ?? 0), 0);
    const y = (point) => (28 - (24 * point.rate) / (most || 1)).toFixed(1);
    let curve = "", area = "", stalls = "", drops = "", last = null;
    const close = () => { if (last) area += `L${x(last)} 30Z`; };
    for (const point of points) {
      if (point.stalls) stalls += `M${x(point)} 27V30`;
      if (point.drops) drops += `M${x(point)} 0V4`;
      if (point.rate === null) continue;
      if (last === null || point.at - last.at > GAP_S) { // nothing is known of the time between
        close();
        curve += `M${x(point)} ${y(point)}`;
        area += `M${x(point)} 30L${x(point)} ${y(point)}`;
      } else {
        curve += `L${x(point)} ${y(point)}`;
        area += `L${x(point)} ${y(point)}`;
      }
      last = point;
    }
    close();
    set(this.curve, "d", curve);
    set(this.area, "d", area);
    set(this.stalls, "d", stalls);
    set(this.drops, "d", drops);
    const seconds = (key) => points.filter((point) => point[key]).length;
    let label = `${what} in the last 2 minutes: now ${formatRate(points.at(-1).rate)} messages/s, at most ${formatRate(most)}`;
    if (stalls) label += `; stalled in ${seconds("stalls")} of ${points.length} looks`;
    if (drops) label += `; dropped in ${seconds("drops")} of ${points.length} looks`;
    set(this.element, "aria-label", label);
  }
}
