// What waits for the end of a tick, by connection.

export class Waiting {
  #tickMs;
  #flush;
  #conns = [];
  #spare = [];

  /** `flush(conn, messages)` sends all that waits for a connection; with a tick of 0 ms when the event loop has turned. */
  constructor(tickMs, flush) {
    this.#tickMs = tickMs;
    this.#flush = flush;
  }

  add(conn, message) {
    if (conn.waiting.push(message) > 1) return;
    if (this.#conns.push(conn) > 1) return;
    if (this.#tickMs === 0) setImmediate(this.#tick);
    else setTimeout(this.#tick, this.#tickMs);
  }

  #tick = () => {
    const conns = this.#conns;
    this.#conns = this.#spare;
    for (let index = 0; index < conns.length; index += 1) {
      const conn = conns[index];
      this.#flush(conn, conn.waiting);
      conn.waiting.length = 0;
    }
    conns.length = 0;
    this.#spare = conns;
  };
}
