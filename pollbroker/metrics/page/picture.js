// The picture: a card for each broker, with its ports on both sides and its flows between them. Only cards in view have
// more than a head, and are kept up to date.

const DOTS_MOST = 8;

class Card {
  constructor(name, steer) {
    this.name = name;
    this.inView = false;
    this.shape = null;
    this.title = make("h3", {}, name);
    this.device = make("span", { class: "quiet" });
    this.sign = make("span", { "aria-hidden": "true" });
    this.word = make("span");
    this.state = make("span", { class: "state" }, this.sign, " ", this.word);
    this.rate = make("b");
    this.history = new Curve();
    this.why = make("p", { class: "why", hidden: "" });
    this.pause = make("button", { type: "button" });
    this.drain = make("button", { type: "button" }, "Drain", make("span", { class: "unseen" }, ` ${name}`));
    this.steering = make("div", { class: "steering", hidden: "" }, this.pause, this.drain);
    this.pause.addEventListener("click", () => steer(this.next, name, this.pause));
    this.drain.addEventListener("click", () => steer("drain", name, this.drain));
    const now = make("span", { class: "now" }, this.rate, make("span", { class: "quiet" }, " messages/s"));
    const head = make("div", { class: "head" }, this.title, this.device, this.state, now, this.history.element, this.steering);
    this.picture = make("div", { class: "picture" });
    this.element = make("li", { class: "broker", id: `broker-${name}` }, head, this.why, this.picture);
    this.element.card = this;
  }

  update(view, steerable) {
    set(this.element, "data-level", view.level);
    if (!this.inView) return;
    const [sign, word] = stateOf(view);
    say(this.device, view.device);
    say(this.sign, sign);
    say(this.word, word);
    set(this.state, "data-level", view.state === "failed" ? "bad" : view.state === "running" && !view.disabled ? "good" : "warn");
    say(this.rate, formatRate(view.taken));
    this.history.update(view.history, `Messages taken by ${this.name}`);
    show(this.why, Boolean(view.error));
    say(this.why, view.error ?? "");
    show(this.steering, steerable && ["running", "paused"].includes(view.state));
    this.next = view.state === "paused" ? "resume" : "pause";
    const verb = view.state === "paused" ? "Resume" : "Pause";
    if (this.verb !== verb) {
      this.verb = verb;
      this.pause.replaceChildren(verb, make("span", { class: "unseen" }, ` ${this.name}`));
    }
    const shape = JSON.stringify([view.ports.map((port) => [port.name, port.type, port.endpoints, port.joined]), drawnFlows(view).map((flow) => flow.key)]);
    if (shape !== this.shape) {
      this.shape = shape;
      this.build(view);
    }
    view.ports.forEach((port) => this.ports.get(port.name).update(port));
    drawnFlows(view).forEach((flow, index) => this.flows[index].update(flow, view));
    const counters = Object.entries(view.counters).map(([name, value]) => `${name.replaceAll("_", " ")} ${formatCount(value)}`);
    show(this.counters, counters.length > 0);
    say(this.counters, counters.join(" · "));
  }

  build(view) {
    this.ports = new Map(view.ports.map((port) => [port.name, new PortBox(port)]));
    this.flows = drawnFlows(view).map((flow) => new FlowLine(flow, view.ports.length > 2));
    this.counters = make("p", { class: "counters", hidden: "" });
    const [first, ...others] = view.ports.map((port) => this.ports.get(port.name).element);
    const many = this.flows.length > 2 ? " many" : "";
    this.picture.replaceChildren(
      make("div", { class: "side" }, ...(first ? [first] : [])),
      make("div", { class: `flows${many}` }, ...this.flows.map((flow) => flow.element)),
      make("div", { class: "side" }, ...(others.length ? others : [inside(view)])),
      this.counters,
    );
  }
}

// The flows as they are drawn. A behaviour has one account for all of its ports: what the first port takes and sends is
// drawn for it.
function drawnFlows(view) {
  return view.flows.flatMap((flow) => {
    const first = view.ports[0];
    if (!first || view.ports.some((port) => port.name === flow.source)) {
      const way = flow.sinks.includes(flow.source) ? "back" : flow.source === first?.name ? "right" : "left";
      return [{ ...flow, way, key: `${flow.source}>${flow.sinks}`, to: flow.sinks.join(", ") || "nowhere" }];
    }
    const others = view.ports.slice(1).filter((port) => port.name !== "capture").map((port) => port.name).join(", ") || first.name;
    const taken = { ...flow, way: "right", key: "taken", source: first.name, to: others, sent: first.taken };
    const quiet = { held: 0, dropped: 0, dropRate: 0, filtered: 0, rules: [] };
    return [taken, { ...flow, ...quiet, way: "left", key: "sent", source: others, to: first.name, sent: first.sent }];
  });
}

// What stands in the place of a second port where there is none.
function inside(view) {
  const what = view.flows.some((flow) => flow.source === view.ports[0]?.name) ? "sends back what it takes" : "decides about each message";
  return make("div", { class: "port capture" }, make("p", {}, make("b", {}, view.device)), make("p", { class: "peers" }, what));
}

class PortBox {
  constructor(port) {
    this.dots = draw("svg", { class: "dots", "aria-hidden": "true" });
    this.peers = make("span");
    this.count = undefined;
    const addresses = port.endpoints.map((one) => make("p", { class: "address" }, one));
    const joined = port.joined.slice(0, 3).map((one) =>
      make("p", { class: "peers" }, "joined to ", make("a", { href: `#broker-${encodeURIComponent(one.broker)}` }, `${one.broker}.${one.port}`)));
    this.element = make("div", { class: port.name === "capture" ? "port capture" : "port" },
      make("p", {}, make("b", {}, port.name), " ", make("span", { class: "type" }, port.type)),
      ...addresses, make("p", { class: "peers" }, this.dots, this.peers), ...joined);
  }

  update(port) {
    if (port.peers === this.count) return;
    this.count = port.peers;
    const dots = Math.min(port.peers ?? 0, DOTS_MOST);
    set(this.dots, "viewBox", `0 0 ${dots * 12 || 1} 12`);
    set(this.dots, "width", dots * 11);
    this.dots.style.display = dots ? "" : "none";
    this.dots.replaceChildren(...Array.from({ length: dots }, (_, index) => draw("circle", { cx: index * 12 + 5, cy: 6, r: 4 })));
    say(this.peers, port.peers === null ? "peers not told by libzmq" : port.peers === 0 ? "no peers" : plural(port.peers, "peer"));
  }
}

class FlowLine {
  constructor(flow, named) {
    this.rate = make("b");
    this.stalled = make("span", { class: "mark stalled" });
    this.dropping = make("span", { class: "mark dropping" });
    this.account = make("p", { class: "account" });
    this.dropped = make("span", { class: "dropped" });
    this.quietly = make("span");
    this.account.append(this.dropped, this.quietly);
    this.shafts = [draw("line", { class: "shaft", x1: 0, y1: 6, x2: "100%", y2: 6 }), draw("line", { class: "shaft", x1: "50%", y1: 0, x2: "50%", y2: 26 })];
    const across = draw("svg", { x: "100%", y: 6, overflow: "visible" }, draw("path", { class: "end", d: "M-7-5L0 0L-7 5" }), draw("path", { class: "stop", d: "M0-7V7" }));
    const down = draw("svg", { x: "50%", y: 26, overflow: "visible" }, draw("path", { class: "end", d: "M-5-7L0 0L5-7" }), draw("path", { class: "stop", d: "M-8 0H8" }));
    const name = make("span", { class: named || flow.way === "back" ? "quiet" : "unseen" }, `${flow.source} to ${flow.to}: `);
    this.element = make("div", { class: "flow", "data-way": flow.way },
      make("p", {}, name, this.rate, make("span", { class: "quiet" }, "/s"), this.stalled, this.dropping),
      draw("svg", { class: "line", "aria-hidden": "true" }, this.shafts[0], across),
      draw("svg", { class: "line down", "aria-hidden": "true" }, this.shafts[1], down),
      this.account);
  }

  update(flow, view) {
    const paused = view.state !== "running" || flow.state === "paused";
    set(this.element, "data-state", flow.stalled ? "stalled" : paused ? "paused" : flow.sent ? "flows" : "idle");
    const width = flow.sent ? Math.min(6, 1.5 + Math.log10(1 + flow.sent)).toFixed(1) : 1.5;
    this.shafts.forEach((shaft) => shaft.setAttribute("stroke-width", width));
    say(this.rate, formatRate(flow.sent));
    show(this.stalled, flow.stalled);
    say(this.stalled, "❙ stalled");
    show(this.dropping, flow.dropRate > 0);
    say(this.dropping, flow.dropRate > 0 ? `✕ drops ${formatRate(flow.dropRate)}/s` : "");
    const rules = flow.rules.map(([rule, count]) => (flow.rules.length > 1 ? `${rule} ${formatCount(count)}` : rule)).join(", ");
    say(this.dropped, flow.dropped ? `✕ ${formatCount(flow.dropped)} dropped: ${rules}` : "");
    const others = [];
    if (flow.held) others.push(`${formatCount(flow.held)} held`);
    if (flow.filtered) others.push(`${formatCount(flow.filtered)} filtered out`);
    say(this.quietly, (flow.dropped && others.length ? " · " : "") + others.join(" · "));
    show(this.account, flow.dropped > 0 || others.length > 0);
  }
}
