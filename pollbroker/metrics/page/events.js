// The events: those of /eventz, and what the figures show of stalls and drops. The newest is first. What matters is also
// spoken, at most once in some seconds, so that a screen reader is not drowned by peers that come and go.

const EVENTS_SHOWN = 200;
const SPOKEN_EVERY_MS = 5000;
const AGAIN_S = 10; // between two entries of the same kind about one broker
const PORTS_UNASKED = 100; // as many ports of libzmq are monitored without a question

const KINDS = {
  broker_added: "was added", broker_paused: "was paused", broker_resumed: "was resumed", broker_failed: "failed",
  broker_ended: "has ended", broker_removed: "was removed", peer_connected: "peer connected", peer_left: "peer left",
  handshake_failed: "handshake failed", connection_refused: "connection refused",
};
const LEVELS = { broker_failed: "bad", handshake_failed: "warn", connection_refused: "warn", stalls: "warn", drops: "bad" };

class Events {
  constructor() {
    this.run = null;
    this.last = 0;
    this.followed = null; // null until it is known whether the user has to be asked
    this.noted = new Map();
    this.stalling = new Set();
    this.unspoken = [];
    this.spokenAt = 0;
    this.listened = false;
    find("which").addEventListener("change", () => this.choose());
    find("follow").addEventListener("click", () => {
      this.followed = true;
      show(find("ask"), false);
    });
  }

  // Whether events are to be asked for. Each port that libzmq serves is given a monitor when the first one asks.
  wanted(figures) {
    if (this.followed === null) {
      const ports = [...figures.brokers.values()].flatMap((view) => view.ports).filter((port) => port.transport === "libzmq").length;
      this.followed = ports <= PORTS_UNASKED;
      show(find("ask"), !this.followed);
      say(find("ask-why"), `Each of the ${WHOLE.format(ports)} ports that libzmq serves would be given a monitor, which holds up the engine for a moment.`);
    }
    return this.followed;
  }

  take(answer) {
    if (this.run !== null && this.run !== answer.run) {
      this.last = 0;
      this.add({ at: Date.now() / 1000, what: "another process answers now", group: "brokers" });
      this.run = answer.run;
      return; // its events are asked for next, from the first
    }
    if (this.run !== null && answer.missed) this.add({ at: Date.now() / 1000, what: `${plural(answer.missed, "event")} missing here`, group: "brokers" });
    if (this.listened && !answer.listening) this.add({ at: Date.now() / 1000, what: "nobody has listened for a while: events may be missing here", group: "brokers" });
    this.listened = answer.listening;
    this.run = answer.run;
    this.last = answer.last;
    for (const event of answer.events) this.add(entryOf(event));
  }

  // What the figures show: which flows begin to stall, or move again, and which drop messages.
  watch(figures) {
    for (const view of figures.brokers.values()) {
      const at = figures.about.time_s;
      if (view.stalled.length && !this.stalling.has(view.name)) {
        this.stalling.add(view.name);
        this.note(view.name, "stalls", { at, what: "stalls", more: view.stalled.map((flow) => `from ${flow.source || flow.name}: no sink takes messages`).join("; ") });
      } else if (!view.stalled.length && this.stalling.delete(view.name)) {
        this.note(view.name, "moves", { at, what: "stalls no more" });
      }
      if (view.dropRate > 0) {
        const rules = view.flows.flatMap((flow) => flow.rules).map(([rule, count]) => `${rule} ${formatCount(count)}`);
        this.note(view.name, "drops", { at, what: "drops messages", more: `so far: ${rules.join(", ")}` });
      }
    }
  }

  note(broker, kind, entry) {
    const key = `${kind} ${broker}`;
    if (entry.at - (this.noted.get(key) ?? 0) < AGAIN_S) return;
    this.noted.set(key, entry.at);
    this.add({ ...entry, broker, group: "brokers", level: LEVELS[kind] });
  }

  add(entry) {
    const time = new Date(entry.at * 1000);
    const about = entry.broker ? entry.broker + (entry.group === "peers" ? ": " : " ") : "";
    const item = make("li", { "data-group": entry.group }, make("time", { datetime: time.toISOString() }, time.toTimeString().slice(0, 8)),
      make("span", { class: "what" }, about + entry.what));
    if (entry.level) set(item, "data-level", entry.level);
    if (entry.more) item.append(make("span", { class: "more" }, entry.more));
    item.hidden = !this.fits(item);
    const list = find("events");
    list.prepend(item);
    while (list.childElementCount > EVENTS_SHOWN) list.lastElementChild.remove();
    show(find("no-events"), false);
    if (entry.group === "brokers" || entry.level) this.unspoken.push(about + entry.what);
  }

  speak() {
    if (!this.unspoken.length || performance.now() - this.spokenAt < SPOKEN_EVERY_MS) return;
    this.spokenAt = performance.now();
    const told = this.unspoken.slice(-3).join("; ");
    const more = this.unspoken.length - 3;
    find("spoken").textContent = more > 0 ? `${told}; and ${plural(more, "more event")}` : told;
    this.unspoken = [];
  }

  fits(item) {
    const which = find("which").value;
    return which === "all" || item.dataset.group === which;
  }

  choose() {
    for (const item of find("events").children) item.hidden = !this.fits(item);
  }
}

function entryOf(event) {
  const ofPeer = !event.kind.startsWith("broker");
  const what = event.kind === "events_lost" ? `${plural(event.count, "event")} lost here` : KINDS[event.kind] ?? event.kind;
  const broker = ofPeer && event.port ? `${event.broker}.${event.port}` : event.broker;
  const times = event.count > 1 && event.kind !== "events_lost" ? `${event.count} times` : "";
  const reason = event.reason === "left" ? "" : event.reason;
  return { at: event.time_s, broker, what, more: [event.address, reason, times].filter(Boolean).join(" · "), group: ofPeer ? "peers" : "brokers", level: LEVELS[event.kind] };
}
