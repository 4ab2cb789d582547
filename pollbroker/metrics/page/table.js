// The same figures as a table: dense for many brokers, and plain for whoever does not see the picture.

const ROWS_MOST = 200;

class Table {
  constructor() {
    this.rows = [];
  }

  update(views) {
    const shown = views.slice(0, ROWS_MOST);
    while (this.rows.length < shown.length) this.rows.push(new Row());
    this.rows.forEach((row, index) => row.update(shown[index]));
    const body = find("rows");
    if (body.childElementCount !== shown.length) body.replaceChildren(...this.rows.slice(0, shown.length).map((row) => row.element));
    this.rows.length = shown.length;
    say(find("rows-limit"), views.length > ROWS_MOST ? `The first ${ROWS_MOST} of ${WHOLE.format(views.length)}. Filter to see others.` : "");
  }
}

class Row {
  constructor() {
    this.name = make("th", { scope: "row" });
    const kinds = ["", "", "number", "number", "number", "", "number", "number"];
    this.cells = kinds.map((kind) => make("td", kind ? { class: kind } : {}));
    this.element = make("tr", {}, this.name, ...this.cells);
  }

  update(view) {
    if (!view) return;
    say(this.name, view.name);
    const stalled = view.stalled.map((flow) => flow.source || flow.name).join(", ");
    const dropping = view.dropRate > 0 ? ` (✕ ${formatRate(view.dropRate)}/s)` : "";
    const texts = [
      view.device, stateOf(view).join(" "), formatRate(view.taken), formatRate(view.sent), formatCount(view.held),
      stalled ? `❙ ${stalled}` : "no", formatCount(view.dropped) + dropping, view.peers === null ? "–" : formatCount(view.peers),
    ];
    texts.forEach((text, index) => say(this.cells[index], text));
    set(this.cells[5], "data-level", stalled ? "warn" : "");
    set(this.cells[6], "data-level", dropping ? "bad" : "");
    set(this.cells[1], "data-level", view.state === "failed" ? "bad" : "");
  }
}
