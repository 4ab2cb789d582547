// From two documents of /statz to what is shown: rates, what stalls, and what is dropped. Nothing here touches the page.

const DROPS = ["unroutable", "slow_peer", "interrupted", "too_many_frames", "long_subscription", "failed", "removed"];
const HISTORY_S = 120;
const GAP_S = 20; // longer than two looks are ever apart while the page is in sight
const STALLED_SHARE = 0.5; // of the time between two documents, for a flow to be called stalled

class Figures {
  constructor() {
    this.about = null;
    this.brokers = new Map(); // what is shown of each broker, by its name
    this.histories = new Map();
    this.total = [];
    this.documents = null;
  }

  // Takes a document of /statz.
  take(document) {
    const last = this.documents;
    const again = last !== null && last.about.process === document.about.process && last.about.host === document.about.host;
    const passed = again ? document.about.time_s - last.about.time_s : 0;
    const at = document.about.time_s;
    const joined = joints(document.brokers);
    const brokers = new Map();
    let rate = passed > 0 ? 0 : null, stalls = 0, drops = 0;
    for (const [name, now] of Object.entries(document.brokers)) {
      const view = viewOf(now, again ? last.brokers[name] : undefined, passed, joined);
      brokers.set(name, view);
      const history = this.histories.get(name) ?? [];
      this.histories.set(name, history);
      remember(history, at, view.taken, view.stalled.length, view.dropRate);
      view.history = history;
      if (rate !== null) rate += view.taken ?? 0;
      stalls += view.stalled.length;
      drops += view.dropRate;
    }
    for (const name of this.histories.keys()) if (!brokers.has(name)) this.histories.delete(name);
    remember(this.total, at, rate, stalls, drops);
    this.documents = document;
    this.about = document.about;
    this.brokers = brokers;
    this.sums = { rate, stalls, drops };
  }
}

function remember(history, at, rate, stalls, drops) {
  history.push({ at, rate, stalls, drops });
  while (history.length && history[0].at < at - HISTORY_S) history.shift();
}

// The messages in a second, or null where there was no document before, or the counters began anew.
function rateOf(now, before, passed) {
  return before === undefined || !(passed > 0) || now < before ? null : (now - before) / passed;
}

function viewOf(now, before, passed, joined) {
  const ports = Object.entries(now.ports).map(([name, port]) => {
    const old = before?.ports[name];
    return {
      name, type: port.type, endpoints: port.endpoints, peers: port.peers, transport: port.transport,
      taken: rateOf(port.received, old?.received, passed), sent: rateOf(port.sent, old?.sent, passed),
      joined: port.endpoints.flatMap((one) => joined.get(joint(one)) ?? []).filter((one) => one.broker !== now.name),
    };
  });
  const flows = Object.entries(now.flows).map(([name, flow]) => flowOf(name, flow, before?.flows[name], passed));
  const sum = (values) => values.reduce((all, one) => (one === null ? all : (all ?? 0) + one), null);
  const view = {
    name: now.name, device: now.device, state: now.state, error: now.error, disabled: now.disabled, ports, flows,
    counters: now.counters,
    taken: sum(flows.map((flow) => flow.taken)),
    sent: sum(flows.map((flow) => flow.sent)),
    held: flows.reduce((all, flow) => all + flow.held, 0),
    stalled: flows.filter((flow) => flow.stalled),
    dropped: flows.reduce((all, flow) => all + flow.dropped, 0),
    dropRate: flows.reduce((all, flow) => all + (flow.dropRate ?? 0), 0),
    peers: sum(ports.map((port) => port.peers)),
  };
  view.level = levelOf(view);
  return view;
}

function flowOf(name, now, before, passed) {
  const dropped = DROPS.reduce((all, rule) => all + now[rule], 0);
  const droppedBefore = before && DROPS.reduce((all, rule) => all + before[rule], 0);
  const share = before && passed > 0 ? Math.max(0, now.stalled_s - before.stalled_s) / passed : null;
  const full = now.state === "stalled" || now.state === "retrying";
  return {
    name, source: now.source, sinks: now.sinks, state: now.state, held: now.held, filtered: now.filtered, dropped,
    taken: rateOf(now.received, before?.received, passed),
    sent: rateOf(now.sent, before?.sent, passed),
    rules: DROPS.filter((rule) => now[rule] > 0).map((rule) => [rule.replaceAll("_", " "), now[rule]]),
    dropRate: rateOf(dropped, droppedBefore, passed),
    stalled: share === null ? full : share >= STALLED_SHARE || (full && share > STALLED_SHARE / 2),
  };
}

function levelOf(view) {
  if (view.state === "failed" || view.dropRate > 0) return "bad";
  if (view.stalled.length || view.disabled || !["running", "paused"].includes(view.state)) return "warn";
  return view.state === "paused" ? "off" : "good";
}

const STATES = {
  running: ["●", "running"], paused: ["❚❚", "paused"], draining: ["▽", "draining"], removing: ["▽", "being removed"],
  handing_over: ["⇄", "handing over"], removed: ["■", "removed"], ended: ["■", "ended"], failed: ["✕", "failed"],
};

// The sign and the word of a state. A broker that is disabled works, but nobody can connect to it.
function stateOf(view) {
  const [sign, word] = STATES[view.state] ?? ["?", view.state];
  return view.disabled ? ["⊘", `${word}, disabled`] : [sign, word];
}

// Ports of two brokers that have one address are joined: the one connects to where the other listens.
function joints(brokers) {
  const found = new Map();
  for (const [broker, { ports }] of Object.entries(brokers)) {
    for (const [port, { endpoints }] of Object.entries(ports)) {
      for (const endpoint of endpoints) {
        const key = joint(endpoint);
        if (!found.has(key)) found.set(key, []);
        found.get(key).push({ broker, port });
      }
    }
  }
  return found;
}

function joint(endpoint) {
  return endpoint.replace(/^tcp:\/\/(127\.\d+\.\d+\.\d+|0\.0\.0\.0|localhost|\*|\[::1?\]):/, "tcp://here:");
}

const WHOLE = new Intl.NumberFormat("en");

function formatRate(rate) {
  if (rate === null || rate === undefined) return "–";
  if (rate === 0) return "0";
  if (rate < 10) return rate.toFixed(1);
  if (rate < 99_500) return WHOLE.format(Math.round(rate));
  return rate < 999_500 ? `${Math.round(rate / 1000)}k` : `${(rate / 1_000_000).toFixed(2)}M`;
}

const formatCount = (count) => (count < 1_000_000 ? WHOLE.format(count) : `${(count / 1_000_000).toFixed(1)}M`);
const plural = (count, one) => `${WHOLE.format(count)} ${one}${count === 1 ? "" : "s"}`;
