// Parts of the page that show what the gateway tells: by the stream, and asked for where it does not.

import { ask, DENIED } from "./ask.js";
import { draw, notice } from "./dom.js";

/** One part. path: what is asked, every so many ms; show: draws an answer; failed: what an answer that
 *  is an error still tells; hide: it may not be seen, or is not there; admin: who else asks in vain;
 *  asked: only once it is known that the gateway has it. */
class Part {
  constructor({ path, every, show, failed, hide, admin = false, asked = false }) {
    Object.assign(this, { path, every, show, failed, hide, admin, asked });
    this.streamed = this.shut = this.going = false;
  }

  take(body) { draw(this.path, () => this.show(body)); }

  async look(turn, now) {
    try {
      const body = await ask(this.path);
      if (turn !== now()) return;
      this.take(body);
      notice("away", "");
      notice(this.path, "");
    } catch (error) {
      if (turn !== now()) return;
      if (DENIED.includes(error.status)) { this.shut = true; this.hide(error.status); notice(this.path, ""); }
      else if (!error.status) notice("away", "The gateway does not answer. Trying again…");
      else if (this.failed && error.body) this.failed(error.body);
      else if (!this.asked) notice(this.path, error.message);
    }
  }
}

/** parts: by the name that the stream has for them. */
export class Watch {
  constructor(parts) {
    this.parts = new Map(Object.entries(parts).map(([name, part]) => [name, new Part(part)]));
    this.turn = 0;
    document.addEventListener("visibilitychange", () => { if (!document.hidden) this.lookAll(); });
  }

  begin(admin) {
    this.turn += 1;
    for (const part of this.parts.values()) {
      part.going = part.streamed = false;
      part.shut = part.admin && !admin;
      if (!part.asked) this.follow(part);
    }
  }

  /** Whether the gateway has a part that is not asked for without that. */
  have(name, there) {
    const part = this.parts.get(name);
    if (!part) return;
    if (there) this.follow(part);
    else if (part.going) { part.going = false; part.hide(); }
  }

  end() { this.turn += 1; }

  /** A snapshot came by the stream: that part is asked for no more while the stream lasts. */
  take(name, body) {
    const part = this.parts.get(name);
    if (!part) return;
    part.streamed = true;
    notice("away", "");
    part.take(body);
  }

  unstreamed() { for (const part of this.parts.values()) part.streamed = false; }

  look(name) { return this.parts.get(name).look(this.turn, () => this.turn); }

  lookAll() {
    for (const part of this.parts.values()) if (part.going && !part.streamed) part.look(this.turn, () => this.turn);
  }

  async follow(part) {
    if (part.going || part.shut) return;
    part.going = true;
    const turn = this.turn, now = () => this.turn;
    while (turn === now() && part.going && !part.shut) {
      if (!document.hidden && !part.streamed) await part.look(turn, now);
      await new Promise((done) => { setTimeout(done, part.every); });
    }
    if (turn === now()) part.going = false;
  }
}
