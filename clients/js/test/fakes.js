// A clock that goes when it is told to, a WebSocket without a network, and a Ringroad between them.

import { Ringroad } from '../ringroad.js';

/** Runs timers in order as `advance` passes them. `chance` is what `random` gives. */
export class FakeClock {
  ms = 1_000;
  unixAheadMs = 1_767_268_800_000;
  chance = 0.5;
  timers = new Map();
  #made = 0;

  nowMs = () => this.ms;
  unixMs = () => this.ms + this.unixAheadMs;
  random = () => this.chance;
  setTimeout = (callback, ms) => {
    this.timers.set(++this.#made, { callback, dueMs: this.ms + Math.max(ms, 0) });
    return this.#made;
  };
  clearTimeout = (timer) => this.timers.delete(timer);

  advance(ms) {
    const endMs = this.ms + ms;
    for (let ran = 0; ; ran++) {
      if (ran > 100_000) throw new Error('timers without end');
      const due = [...this.timers].filter(([, { dueMs }]) => dueMs <= endMs);
      const [next] = due.sort(([, a], [, b]) => a.dueMs - b.dueMs);
      if (!next) break;
      const [timer, { callback, dueMs }] = next;
      this.timers.delete(timer);
      this.ms = Math.max(this.ms, dueMs);
      callback();
    }
    this.ms = endMs;
  }
}

/** A Ringroad whose sockets are made here: the newest is `socket`. `heard` lists what its listeners got. */
export function stage(options = {}, names = ['open', 'close', 'reconnecting', 'error']) {
  const made = [];
  class FakeSocket {
    readyState = 0;
    protocol = 'ringroad.v1';
    bufferedAmount = 0;
    sent = [];
    closedWith = null;

    constructor(url, protocol) {
      this.url = url;
      this.offered = protocol;
      made.push(this);
    }

    send(data) {
      if (this.readyState === 0) throw new Error('InvalidStateError');
      if (this.readyState === 1) this.sent.push(data);
    }

    close(code) {
      this.readyState = 2;
      this.closedWith = code ?? 1005;
    }

    // The other end.

    accept() {
      this.readyState = 1;
      this.onopen({});
      return this;
    }

    say(event, data = {}) {
      this.onmessage({ data: JSON.stringify({ event, data }) });
    }

    end(code, reason = '') {
      this.readyState = 3;
      this.onclose({ code, reason });
    }

    /** What was sent since the last look: events as `[name, data]`, positions as bytes. */
    take() {
      return this.sent.splice(0).map((message) => {
        if (typeof message !== 'string') return message;
        const { event, data } = JSON.parse(message);
        return [event, data];
      });
    }
  }
  const clock = new FakeClock();
  const road = new Ringroad('ws://gateway/v2v', { WebSocket: FakeSocket, clock, ...options });
  const heard = [];
  for (const name of names) road.on(name, (data) => heard.push([name, data]));
  return {
    road,
    clock,
    made,
    heard,
    get socket() {
      return made.at(-1);
    },
    takeHeard: () => heard.splice(0),
  };
}
