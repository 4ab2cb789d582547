// Steering, for whoever has the token. It is kept in a variable of this script, and nowhere else.

class Steering {
  constructor(onChange) {
    this.onChange = onChange;
    this.token = null;
    this.hiding = null;
    find("steer").addEventListener("click", () => (this.token === null ? this.ask("") : this.forget()));
    find("cancel").addEventListener("click", () => find("dialog").close());
    find("form").addEventListener("submit", (submit) => {
      submit.preventDefault();
      this.check(find("token").value);
    });
    find("dialog").addEventListener("close", () => (find("token").value = ""));
  }

  ask(why) {
    say(find("wrong"), why);
    find("dialog").showModal();
    find("token").focus();
  }

  forget() {
    this.token = null;
    say(find("steer"), "Steer");
    this.onChange();
  }

  async check(token) {
    const answer = await this.send(token, { command: "check" });
    if (!answer.ok) {
      say(find("wrong"), answer.status === 401 ? "This is not the token." : answer.text);
      find("token").select();
      return;
    }
    this.token = token;
    find("dialog").close();
    say(find("steer"), "Stop steering");
    this.tell("You can steer brokers now.");
    this.onChange();
  }

  async carryOut(command, broker, button) {
    button.disabled = true;
    if (command === "drain") this.tell(`Draining ${broker}: up to 5 s.`);
    const answer = await this.send(this.token, { command, broker });
    button.disabled = false;
    button.focus();
    if (answer.status === 401) {
      this.forget();
      this.ask("The token is not right any more.");
    } else {
      this.tell(answer.text);
    }
    this.onChange();
  }

  async send(token, body) {
    try {
      const headers = { "Content-Type": "application/json", Authorization: `Bearer ${token}` };
      const answer = await fetch("steer", { method: "POST", headers, body: JSON.stringify(body), cache: "no-store", signal: AbortSignal.timeout(12_000) });
      return { ok: answer.ok, status: answer.status, text: (await answer.text()).trim() };
    } catch (error) {
      // A token with characters that no header can have is wrong, too.
      return { ok: false, status: 0, text: error instanceof TypeError && /[^ -~]/.test(token) ? "This is not the token." : "The daemon does not answer." };
    }
  }

  tell(text) {
    clearTimeout(this.hiding);
    show(find("said"), true);
    say(find("said"), text);
    this.hiding = setTimeout(() => show(find("said"), false), 8000);
  }
}
